import socket
from pathlib import Path

import psutil
import pytest
from waybill import doctor
from waybill.doctor import Finding, Level
from waybill.parts import rabbitmq
from waybill.project import Project
from waybill.runtime import debian, go_build, install


def _about(findings: list[Finding], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


def test_a_port_in_use_is_broken_and_named(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        run_file = checkout.run_file.read_text().replace("28001", str(port))
        checkout.run_file.write_text(run_file)

        finding = _about(doctor.examine(checkout), "Ports")

    assert finding.level is Level.BROKEN
    assert f"Port {port} (orders)" in finding.message
    assert "kill" in finding.fix


def test_what_we_install_ourselves_is_a_hint_and_else_the_command_is_named(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rabbitmq, "find_server", lambda: None)
    monkeypatch.setattr(debian, "can_install", lambda: True)
    assert _about(doctor.examine(checkout), "RabbitMQ").level is Level.HINT

    monkeypatch.setattr(debian, "can_install", lambda: False)
    finding = _about(doctor.examine(checkout), "RabbitMQ")
    assert finding.level is Level.BROKEN
    assert finding.fix == "sudo apt-get install --no-install-recommends rabbitmq-server"


def test_an_old_broker_is_broken(
    checkout: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "rabbitmq_server-3.8.9" / "sbin" / "rabbitmq-server"
    server.parent.mkdir(parents=True)
    server.touch()
    monkeypatch.setattr(rabbitmq, "find_server", lambda: server)

    finding = _about(doctor.examine(checkout), "RabbitMQ")

    assert (finding.level, finding.message) == (Level.BROKEN, "3.8.9 is too old")


def test_without_dapr_go_is_examined(checkout: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "find", lambda: None)
    monkeypatch.setattr(go_build, "go_version", lambda: (1, 19, 8))

    findings = doctor.examine(checkout)

    assert _about(findings, "Dapr").fix == "`waybill up` installs it"
    assert _about(findings, "Go").message == "1.19.8 is too old"


def test_little_memory_is_broken(checkout: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    little = psutil.virtual_memory()._replace(available=2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)

    assert _about(doctor.examine(checkout), "Memory").level is Level.BROKEN

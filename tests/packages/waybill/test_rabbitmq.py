"""What the private broker is told at its start."""

import json
from pathlib import Path
from typing import Any

import pytest
from waybill import project
from waybill.credentials import ensure
from waybill.parts import rabbitmq
from waybill.project import Project

HERE = project.find()


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rabbitmq, "find_server", lambda: Path("/usr/sbin/rabbitmq-server"))
    monkeypatch.setattr("shutil.which", Path("/usr/bin").joinpath)
    here = Project(tmp_path)
    (tmp_path / "dapr").symlink_to(HERE.root / "dapr")
    (tmp_path / "k8s").symlink_to(HERE.root / "k8s")
    (tmp_path / "run.yaml").symlink_to(HERE.run_file)
    rabbitmq.processes(here, ensure(here))
    return json.loads((here.state / "rabbitmq" / "definitions.json").read_text())


def test_every_queue_is_bounded_and_refuses_rather_than_drops(definitions: Any) -> None:
    [policy] = definitions["policies"]
    assert (policy["pattern"], policy["apply-to"]) == (".*", "queues")
    assert policy["definition"]["overflow"] == "reject-publish"
    assert policy["definition"]["max-length-bytes"] >= 100 * 2**20


def test_a_dead_letter_has_somewhere_to_go_before_its_service_first_starts(
    definitions: Any,
) -> None:
    """As the sidecars declare them, or the broker refuses theirs."""
    subscribers = {file.stem for file in (HERE.root / "dapr" / "subscriptions").glob("*.yaml")}
    assert {queue["name"] for queue in definitions["queues"]} == {
        f"{app}-{app}.dead-letters" for app in subscribers
    }
    for queue in definitions["queues"]:
        assert queue["arguments"] == {"x-queue-type": "quorum"}
        assert (queue["durable"], queue["auto_delete"]) == (True, False)
    exchanges = {exchange["name"]: exchange["type"] for exchange in definitions["exchanges"]}
    assert exchanges == {f"{app}.dead-letters": "topic" for app in subscribers}
    bindings = {(b["source"], b["destination"], b["routing_key"]) for b in definitions["bindings"]}
    assert bindings == {
        (f"{app}.dead-letters", f"{app}-{app}.dead-letters", "") for app in subscribers
    }

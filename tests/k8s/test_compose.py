"""`docker compose` runs what `waybill up` runs, from images of the one Dockerfile."""

import re
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from waybill import compose_environment, project
from waybill.parts import postgres
from waybill.project import Project

ROOT = Path(__file__).parents[2]
STATEFUL_BROKER = ROOT / "k8s/base/stores/rabbitmq/statefulset.yaml"
OPTIONS = {
    "app-id": "appID",
    "app-port": "appPort",
    "dapr-http-port": "daprHTTPPort",
    "dapr-grpc-port": "daprGRPCPort",
    "dapr-internal-grpc-port": "daprInternalGRPCPort",
    "metrics-port": "metricsPort",
    "app-protocol": "appProtocol",
    "scheduler-host-address": "schedulerHostAddress",
    "max-body-size": "maxBodySize",
    "read-buffer-size": "readBufferSize",
    "config": "configFilePath",
    "app-health-check-path": "appHealthCheckPath",
    "app-health-probe-interval": "appHealthProbeInterval",
    "app-health-probe-timeout": "appHealthProbeTimeout",
    "app-health-threshold": "appHealthThreshold",
}


@pytest.fixture(scope="session")
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def run() -> Any:
    return yaml.safe_load((ROOT / "run.yaml").read_text())


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = Project(tmp_path_factory.mktemp("checkout"))
    (here.root / "run.yaml").write_text((ROOT / "run.yaml").read_text())
    return compose_environment.write(here)


def test_every_app_has_its_settings_and_its_sidecar(compose: Any, run: Any) -> None:
    for app in run["apps"]:
        told = compose["services"][app["appID"]]["environment"]
        wanted = run["common"]["env"] | {k: v for k, v in app["env"].items() if k != "PGPASSFILE"}
        wanted |= {
            "UVICORN_PORT": str(app["appPort"]),
            "DAPR_HTTP_PORT": str(app["daprHTTPPort"]),
            "DAPR_GRPC_PORT": str(app["daprGRPCPort"]),
            "APP_ID": app["appID"],
        }
        assert wanted.items() - told.items() <= {("UVICORN_HOST", "127.0.0.1")}
        assert options(compose["services"][f"{app['appID']}-daprd"]) == {
            option: str(value)
            for option, key in OPTIONS.items()
            if (value := (run["common"] | app).get(key)) is not None
        }


def options(sidecar: Any) -> dict[str, str]:
    flags = [*sidecar["entrypoint"], *sidecar["command"]]
    given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
    return {option: value for option, value in given.items() if option in OPTIONS}


def test_sidecars_read_the_directories_of_the_checkout(compose: Any, run: Any) -> None:
    for app in run["apps"]:
        sidecar = compose["services"][f"{app['appID']}-daprd"]
        paths = [flag for flag in sidecar["entrypoint"] if flag.startswith("--resources-path=")]
        assert [path.partition("=")[2] for path in paths] == run["common"]["resourcesPaths"]
        checked = "--enable-app-health-check" in sidecar["command"]
        assert checked is app.get("enableAppHealthCheck", False)


def test_each_database_is_migrated_before_its_service_starts(compose: Any) -> None:
    for service in project.find().databases:
        order = compose["services"][service]["depends_on"]
        assert order[f"{service}-migration"] == {"condition": "service_completed_successfully"}
        migration = compose["services"][f"{service}-migration"]
        assert migration["image"] == compose["services"][service]["image"]
        assert migration["command"][-1] == service
        given = {secret["source"] for secret in compose["services"]["provisioning"]["secrets"]}
        assert {f"{service}-db", f"{service}-db-owner"} <= given


def test_every_container_is_confined(compose: Any) -> None:
    for name, service in compose["services"].items():
        if name != "network":
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["user"] not in {"", "0", "root"}
            assert service["network_mode"] == "service:network"
        assert re.search(r"^waybill/[a-z-]+$|:(?!latest)[\w.-]+$", service["image"])
    published = compose["services"]["network"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_all_that_it_asks_for_is_written(compose: Any, written: Path) -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", (ROOT / "compose.yaml").read_text()))
    told = re.findall(r"^(\w+)='[^']*'$", (written / "env").read_text(), re.MULTILINE)
    assert set(told) == asked
    files = {Path(secret["file"]) for secret in compose["secrets"].values()}
    assert {file.parent for file in files} == {Path(".waybill/compose")}
    assert {file.name for file in files} == {path.name for path in written.iterdir()} - {"env"}


def test_only_we_can_enter_where_it_is_written(written: Path) -> None:
    assert stat.S_IMODE(written.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.iterdir()} == {0o644}


def test_what_is_mounted_is_there(compose: Any) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists()
        for secret in service.get("secrets", []):
            assert secret["source"] in compose["secrets"]


def test_what_containers_use_already_stays(written: Path) -> None:
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    compose_environment.write(Project(written.parents[1]))
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


def test_the_issuer_is_trusted(written: Path) -> None:
    root, issuer = (
        x509.load_pem_x509_certificate((written / name).read_bytes())
        for name in ("ca.crt", "issuer.crt")
    )
    issuer.verify_directly_issued_by(root)
    trusted = ssl.create_default_context(cafile=str(written / "ca.crt")).cert_store_stats()
    assert trusted["x509_ca"] == 1


def test_text_is_sorted_as_in_every_other_cluster(compose: Any) -> None:
    """The image's own default depends on its language, and the order of SKUs with it."""
    given = compose["services"]["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    everywhere = {arg for arg in postgres.INITDB if arg.startswith(("--encoding", "--locale"))}
    assert set(given) == everywhere


def test_the_broker_writes_where_it_may(compose: Any) -> None:
    """Its root file system is read-only, as it is in a pod."""
    [pod] = [
        document
        for document in yaml.safe_load_all(STATEFUL_BROKER.read_text())
        if document["kind"] == "StatefulSet"
    ]
    settings = pod["spec"]["template"]["spec"]["containers"][0]["env"]
    shared = {
        s["name"]: s["value"]
        for s in settings
        if s["value"].startswith("/var/lib/rabbitmq") or s["name"].endswith("_ERL_ARGS")
    }
    assert shared.items() <= compose["services"]["rabbitmq"]["environment"].items()
    assert "rabbitmq:/var/lib/rabbitmq" in compose["services"]["rabbitmq"]["volumes"]


def test_the_scheduler_may_move_its_identity_into_its_place(compose: Any) -> None:
    """It is written to a sibling directory first."""
    scheduler = compose["services"]["scheduler"]
    [target] = [flag for flag in scheduler["command"] if "identity-directory-write" in flag]
    writable = {mount.partition(":")[0] for mount in scheduler["tmpfs"]}
    assert str(Path(target.partition("=")[2]).parent) in writable


def test_options_of_the_state_store_are_words_of_their_own(compose: Any) -> None:
    """Valkey takes `--port=1` for an option of that name without a value."""
    assert not [word for word in compose["services"]["valkey"]["command"] if "=" in word]

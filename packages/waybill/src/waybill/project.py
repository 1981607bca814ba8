"""One checkout: where its files lie and which apps its run file names."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from waybill.errors import PlatformError

RUN_FILE = "run.yaml"
_STATE = ".waybill"
_FORMER_STATE = f"{_STATE}.replaced-"


class App(BaseModel):
    """What the run file says about one app; only what this command needs of it."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(alias="appID")
    port: int = Field(alias="appPort")
    dapr_http_port: int = Field(alias="daprHTTPPort")
    dapr_grpc_port: int = Field(alias="daprGRPCPort")
    internal_grpc_port: int = Field(alias="daprInternalGRPCPort")
    metrics_port: int = Field(alias="metricsPort")
    env: dict[str, str] = Field(default_factory=dict)

    @property
    def sidecar_ports(self) -> tuple[int, ...]:
        return (
            self.dapr_http_port,
            self.dapr_grpc_port,
            self.internal_grpc_port,
            self.metrics_port,
        )


class _RunFile(BaseModel):
    apps: tuple[App, ...]


@dataclass(frozen=True)
class Project:
    root: Path
    state_folder: Path = Path(".waybill")

    @property
    def state(self) -> Path:
        """Everything a run leaves behind; removed by `waybill clean`."""
        return self.root / self.state_folder

    def former_state(self, name: str) -> Path:
        """Where a state goes that another one takes the place of."""
        return self.root / f"{_FORMER_STATE}{name}"

    @property
    def former_states(self) -> Sequence[Path]:
        return sorted(self.root.glob(f"{_FORMER_STATE}*"))

    @property
    def secrets(self) -> Path:
        return self.state / "secrets"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def dapr_logs(self) -> Path:
        """Where `dapr run -f` writes, which offers no choice of the directory."""
        return self.root / ".dapr" / "logs"

    @property
    def run_file(self) -> Path:
        return self.root / RUN_FILE

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def migrations(self, service: str) -> Path:
        return self.root / "services" / service / "migrations"

    @cached_property
    def apps(self) -> tuple[App, ...]:
        return _RunFile.model_validate(yaml.safe_load(self.run_file.read_text())).apps

    def app(self, name: str) -> App:
        return next(app for app in self.apps if app.name == name)

    @cached_property
    def databases(self) -> Sequence[str]:
        """The services that have a database, which bears their name."""
        return [app.name for app in self.apps if "DATABASE_URL" in app.env]


def find(start: Path | None = None) -> Project:
    """The checkout that `start` (by default the working directory) lies in."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / RUN_FILE).is_file():
            return Project(folder)
    raise PlatformError(
        f"No {RUN_FILE} in {here} or above it.", fix="Run this inside a checkout of Waybill."
    )

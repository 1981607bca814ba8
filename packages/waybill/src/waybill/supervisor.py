"""Holds the processes of a running platform: revives them, restarts one, stops all in order."""

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum

from pydantic import BaseModel

from waybill.errors import PlatformError
from waybill.processes import Layer, State, Supervised
from waybill.progress import Board, Stage

_READY_SECONDS = 60

Report = Callable[[str], None]


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


class ProcessStatus(BaseModel):
    name: str
    pid: int | None
    ports: Sequence[int]
    state: State
    started_at: float | None
    restarts: int


class Status(BaseModel):
    """What a supervisor answers when it is asked how things stand."""

    phase: Phase
    error: str
    stages: list[Stage]
    processes: list[ProcessStatus]


class Supervisor:
    """`report` is told of every death and return."""

    def __init__(self, report: Report) -> None:
        self.board = Board()
        self.phase = Phase.STARTING
        self.error = ""
        self.report = report
        self._processes: dict[str, Supervised] = {}
        self._restarting = asyncio.Lock()
        self._heir: asyncio.Task[None] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._processes

    def status(self) -> Status:
        processes = [_status(process) for process in self._processes.values()]
        return Status(
            phase=self.phase, error=self.error, stages=self.board.stages, processes=processes
        )

    def add(self, process: Supervised) -> None:
        self._processes[process.name] = process

    async def bring_up(self, process: Supervised, seconds: float = _READY_SECONDS) -> None:
        """Starts a process and returns when it is ready."""
        self.add(process)
        process.start()
        await process.wait_ready(seconds)

    def keep_alive(self) -> None:
        """From now on whatever dies is started again, but for the CLI, which others outlive."""
        for process in self._processes.values():
            if process.layer is Layer.DAPR_RUN:
                self._heir = asyncio.create_task(self._succeed(process), name="outlive dapr run")
            else:
                process.keep_alive(self.report)
        self.phase = Phase.READY

    async def restart(self, name: str) -> None:
        """Returns when the process is ready again; refuses unknown names and bad moments."""
        process = self._processes.get(name)
        if process is None or process.layer is Layer.DAPR_RUN:
            others = [p.name for p in self._processes.values() if p.layer is not Layer.DAPR_RUN]
            known = ", ".join(sorted(others))
            raise PlatformError(f"There is no process {name!r}.", fix=f"choose one of {known}")
        if self.phase is not Phase.READY:
            raise PlatformError(
                f"The platform is {self.phase}; it can restart {name} when it is ready."
            )
        async with self._restarting:
            await process.restart(self.report, _READY_SECONDS)

    async def stop(self) -> None:
        """Ends every process: apps drain while their sidecars live, and so on down the layers."""
        if self.phase is not Phase.FAILED:
            self.phase = Phase.STOPPING
        if self._heir:
            self._heir.cancel()
        else:  # still starting: the CLI would go on while we stop
            await self._stop(Layer.DAPR_RUN)
        for layer in Layer:
            await self._stop(layer)

    def kill(self) -> None:
        """For whoever cannot wait for `stop`."""
        for process in self._processes.values():
            process.kill()

    async def _stop(self, layer: Layer) -> None:
        members = [
            process
            for process in self._processes.values()
            if process.layer is layer and process.state is not State.STOPPED
        ]
        if members:
            with self.board.stage(f"Stopping {_LAYER_NAMES[layer]}"):
                await asyncio.gather(*(process.stop() for process in members))

    async def _succeed(self, cli: Supervised) -> None:
        """Apps write into a pipe that the CLI reads; once it is gone each needs a new start."""
        await cli.end()
        cli.state = State.STOPPED
        self.report("`dapr run` ended; starting each app again without it")
        async with self._restarting:
            for process in self._processes.values():
                if process.layer is Layer.APP and process.is_adopted:
                    await process.restart(self.report, _READY_SECONDS)


_LAYER_NAMES = {
    Layer.APP: "services",
    Layer.SIDECAR: "sidecars",
    Layer.DAPR_RUN: "dapr run",
    Layer.INFRASTRUCTURE: "infrastructure",
    Layer.FOUNDATION: "epmd",
}


def _status(process: Supervised) -> ProcessStatus:
    return ProcessStatus(
        name=process.name,
        pid=process.pid,
        ports=process.ports,
        state=process.state,
        started_at=process.started_at,
        restarts=process.restarts,
    )

"""The platform that is hurt; it is made anew when a trial has left it broken."""

import os
from contextlib import AsyncExitStack
from pathlib import Path

from faults import clock, disk, network
from rich.console import Console
from waybill import background, ledger, lock
from waybill.commands import lifecycle
from waybill.project import Project
from waybill.seed import DEMO_GOODS, numbered_goods, seed
from waybill.shop import open_shop

RATE = 6.0
"""Orders a second; about half of what two cores bear."""
GOODS = numbered_goods(skus=5, stock=100_000)


class Platform:
    """`scratch` is a directory for what the services look at while they run.

    In namespaces of its own, the database and the broker lie on a disk of their own, which can be
    filled and cut off.
    """

    def __init__(self, project: Project, scratch: Path, rate: float = RATE) -> None:
        self.project = project
        self.rate = rate
        self.failpoints = scratch / "failpoints"
        self.clocks = clock.Clocks(scratch / "clocks")
        self.disk: disk.Disk | None = None
        self.is_sound = True
        self.usual: float | None = None
        """Orders completed a second when nothing is wrong."""
        self._up = AsyncExitStack()
        self._scratch = scratch

    async def start(self) -> None:
        assert lock.holder(self.project) is None, "Stop the platform first: `make down`."
        self.failpoints.mkdir(exist_ok=True)
        os.environ["WAYBILL_RATE_LIMITS"] = "off"  # all customers come from one address here
        os.environ["FAILPOINTS"] = str(self.failpoints)
        self.clocks.prepare()
        if network.is_own():
            lifecycle.remove_state(self.project)
            self.disk = disk.Disk(self._scratch / "disk.img", self.project)
            self.disk.make()
            self._up.callback(self.disk.give_up)
        console = Console(force_terminal=False)
        await self._up.enter_async_context(background.platform(self.project, console))
        ledger.path_of(self.project).touch()  # nothing is acknowledged yet
        async with open_shop(self.project) as shop:
            await seed(self.project, shop, DEMO_GOODS)
            await seed(self.project, shop, GOODS)

    async def stop(self) -> None:
        await self._up.aclose()

    async def make_anew(self) -> None:
        await self.stop()
        lifecycle.remove_state(self.project)
        await self.start()

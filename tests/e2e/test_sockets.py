"""Each service talks to its own sidecar and its own database, and to nobody else."""

import httpx
import psutil
import pytest
from waybill import control, ports
from waybill.project import Project
from waybill.shop import Shop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

TRACE_COLLECTOR = 9411


async def test_no_service_opens_a_connection_past_its_sidecar(
    platform: Project, shop: Shop
) -> None:
    customer = await shop.register("Socket Reader")
    await shop.order(customer, [{"sku": "MUG-ENAMEL", "quantity": 1}])
    status = await control.status(platform)
    assert status
    pids = {process.name: process.pid for process in status.processes}

    strays: list[str] = []
    for app in platform.apps:
        allowed = {app.dapr_http_port, app.dapr_grpc_port, TRACE_COLLECTOR}
        if app.name in platform.databases:
            allowed.add(ports.POSTGRES)
        for connection in psutil.Process(pids[app.name]).net_connections("inet"):
            outbound = connection.raddr and connection.laddr.port != app.port
            if outbound and connection.raddr.port not in allowed:
                strays.append(f"{app.name} → {connection.raddr}")
    assert strays == []


async def test_each_service_is_connected_to_its_sidecar(platform: Project) -> None:
    status = await control.status(platform)
    assert status
    pids = {process.name: process.pid for process in status.processes}
    for app in platform.apps:
        async with httpx.AsyncClient() as client:  # readiness asks the sidecar
            assert (await client.get(f"http://127.0.0.1:{app.port}/ready")).status_code == 200
        connections = psutil.Process(pids[app.name]).net_connections("inet")
        remote = {c.raddr.port for c in connections if c.raddr}
        assert remote & {app.dapr_http_port, app.dapr_grpc_port}, app.name

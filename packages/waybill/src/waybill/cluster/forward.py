"""Lets the platform's Services answer on the ports that `waybill up` gives them, on loopback.

So whatever drives or examines a platform (`demo`, `load`, `verify`, tests) works in the cluster.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from waybill import ports
from waybill.cluster.deploy import NAMESPACE
from waybill.project import Project

_CHUNK = 65_536


def services(project: Project) -> Mapping[int, tuple[str, int]]:
    """Port on loopback → the Service's name and port."""
    return {
        project.app("gateway").port: ("gateway", 80),
        project.app("dashboard").port: ("dashboard", 80),
        ports.POSTGRES: ("postgres", 5432),
        ports.RABBITMQ_MANAGEMENT: ("rabbitmq", 15672),
        ports.MAIL_HTTP: ("mail", 8025),
        ports.PROVIDER: ("provider", 8090),
    }


async def start(project: Project) -> None:
    for port, (service, service_port) in services(project).items():
        await _listen(port, f"{service}.{NAMESPACE}.svc.cluster.local", service_port)


async def _listen(port: int, host: str, host_port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                there = await asyncio.open_connection(host, host_port)
                await _join(reader, writer, *there)
        finally:
            writer.close()

    await asyncio.start_server(serve, ports.HOST, port)


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(reader, far_writer))
            group.create_task(_pass_on(far_reader, writer))
    except* OSError:
        pass
    finally:
        far_writer.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()

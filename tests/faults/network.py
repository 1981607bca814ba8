"""Packets that are dropped or answered with a reset, in a network namespace of our own."""

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from waybill.processes import output

_TABLE = "faults"
_CLASS = 1
_MARK = 7
_ORIGINAL_DESTINATION = 80  # SO_ORIGINAL_DST
_CONTROLLER = Path("/tmp/waybill-net-cls")  # in a mount namespace of our own


def is_own() -> bool:
    return {name for _, name in socket.if_nameindex()} == {"lo"}


@asynccontextmanager
async def ruled(rules: Sequence[str]) -> AsyncGenerator[None]:
    """Rules of nft for every packet that is sent, such as `tcp dport 5672 drop`."""
    assert is_own(), "This would cut the machine's network. Run it by `make faults`."
    chain = "type filter hook output priority 0; policy accept;"
    await _nft(f"table inet {_TABLE} {{\nchain output {{ {chain}\n" + "\n".join(rules) + "\n}\n}")
    try:
        yield
    finally:
        await _nft(f"delete table inet {_TABLE}")


def parted(port: int, *, there: bool = True, back: bool = True) -> list[str]:
    """What the members of the group send to this port is lost, or what they get from there.

    Their connections are marked on the way there, also those that were open before.
    """
    mark = f"meta cgroup {_CLASS} tcp dport {port} ct mark set {_CLASS}"
    return [
        mark + (" drop" if there else ""),
        *([f"tcp sport {port} ct mark {_CLASS} drop"] if back else []),
    ]


@contextmanager
def group_of(pids: Sequence[int]) -> Generator[None]:
    """Makes the processes' packets known to `meta cgroup`."""
    _CONTROLLER.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "cgroup", "-o", "net_cls", "none", _CONTROLLER], check=True)
    # The hierarchy is the machine's, so others may be there.
    group = Path(tempfile.mkdtemp(prefix=f"waybill-{_TABLE}-", dir=_CONTROLLER))
    try:
        (group / "net_cls.classid").write_text(str(_CLASS))
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (_CONTROLLER / "cgroup.procs").write_text(pid)
        group.rmdir()
        subprocess.run(["umount", _CONTROLLER], check=True)


@asynccontextmanager
async def delayed(ports: Sequence[int], seconds: float) -> AsyncGenerator[None]:
    """Whatever is sent to these ports, and from there, arrives so much later.

    This kernel may have no netem: a proxy holds back what goes through it. Connections that are
    open already are reset, so that they come again by this way.
    """
    assert is_own(), "This would slow the machine's network. Run it by `make faults`."
    incoming: set[asyncio.StreamWriter] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming.add(writer)
        await _relay(reader, writer, seconds)
        incoming.discard(writer)

    async with await asyncio.start_server(relay, "127.0.0.1") as server:
        proxy = server.sockets[0].getsockname()[1]
        to = ", ".join(map(str, ports))
        await _nft(
            f"""table ip {_TABLE} {{
            chain outgoing {{ type nat hook output priority -100;
            tcp dport {{ {to} }} meta mark != {_MARK} redirect to :{proxy}
            }}
            }}"""
        )
        try:
            async with ruled([f"tcp dport {{ {to} }} meta mark != {_MARK} reject with tcp reset"]):
                await asyncio.sleep(1)  # every open connection is used more often than that
            yield
        finally:
            await _nft(f"delete table ip {_TABLE}")
            for writer in incoming:
                writer.transport.abort()


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    """To where the connection was meant to go, as the kernel remembers."""
    name = writer.get_extra_info("socket").getsockopt(socket.SOL_IP, _ORIGINAL_DESTINATION, 16)
    port = int.from_bytes(name[2:4])
    outgoing = socket.socket()
    outgoing.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, _MARK)
    outgoing.settimeout(0)
    try:
        await asyncio.get_running_loop().sock_connect(outgoing, ("127.0.0.1", port))
    except OSError:
        outgoing.close()
    else:
        far_reader, far_writer = await asyncio.open_connection(sock=outgoing)
        there, back = (reader, far_writer), (far_reader, writer)
        await asyncio.gather(*(_forward(*way, seconds) for way in (there, back)))
    finally:
        writer.close()


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    """Each piece is sent `seconds` after it came, however much comes meanwhile."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while piece := await reader.read(65536):
            loop.call_later(seconds, writer.write, piece)
    loop.call_later(seconds, writer.close)


async def _nft(script: str) -> None:
    await output("nft", "-f", "-", stdin=script)

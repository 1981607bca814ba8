"""What a person reads when a command cannot do its work."""

import asyncio
import socket

import aiohttp
import pytest
from waybill import cli


def test_a_platform_that_is_down_is_told_with_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]

    async def ask() -> None:
        async with aiohttp.ClientSession() as http:
            await http.get(f"http://127.0.0.1:{port}/")

    monkeypatch.setattr(cli, "app", lambda: asyncio.run(ask()))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == f"Nothing answers at 127.0.0.1:{port}\nFix: waybill up\n"

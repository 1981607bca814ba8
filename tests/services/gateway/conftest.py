"""Fixtures for the tests of `gateway`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from chassis.sidecar import Reply, sidecar
from chassis.testing import StandInSidecar
from fastapi import FastAPI
from gateway.app import app as gateway_app
from gateway.rate_limits import RateLimits
from gateway.settings import GatewaySettings


@dataclass(frozen=True)
class Call:
    app_id: str
    path: str
    method: str
    body: bytes | None
    content_type: str
    headers: Mapping[str, str]


EMPTY = Reply(200, {"content-type": "application/json"}, b"{}")


@dataclass
class Mesh:
    """All services behind the sidecar: keeps every call, and answers each with the same reply."""

    calls: list[Call] = field(default_factory=list[Call])
    reply: Reply = EMPTY
    trouble: Exception | None = None

    async def invoke(
        self,
        app_id: str,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        self.calls.append(Call(app_id, path, method, body, content_type, headers or {}))
        if self.trouble:
            raise self.trouble
        return self.reply

    def answer(self, status: int, body: Any, **headers: str) -> None:
        kind = "application/problem+json" if status >= 400 else "application/json"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.reply = Reply(status, {"content-type": kind, **named}, json.dumps(body).encode())


@pytest.fixture
def mesh(stand_in: StandInSidecar, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    services = Mesh()
    monkeypatch.setattr(sidecar, "invoke", services.invoke)
    return services


@pytest.fixture
def app(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr("gateway.api.rate_limits", RateLimits(GatewaySettings()))
    return gateway_app

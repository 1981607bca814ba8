"""The secrets of one checkout: made once, at random, readable by their owner only."""

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel, Field

from waybill import ports
from waybill.errors import PlatformError
from waybill.project import Project

BROKER_VARIABLE = "WAYBILL_RABBITMQ_URL"


def _password() -> str:
    return secrets.token_urlsafe(24)


class DatabasePasswords(BaseModel):
    """`owner` migrates, `service` may only read and write rows."""

    owner: str = Field(default_factory=_password)
    service: str = Field(default_factory=_password)


class PlatformSecrets(BaseModel):
    """Everything random that no service may read; kept in `platform.json`."""

    postgres_password: str = Field(default_factory=_password)
    databases: dict[str, DatabasePasswords] = Field(default_factory=dict[str, DatabasePasswords])
    valkey_password: str = Field(default_factory=_password)
    rabbitmq_user: str = "waybill"
    rabbitmq_password: str = Field(default_factory=_password)
    smtp_user: str = "waybill"
    smtp_password: str = Field(default_factory=_password)
    provider_key: str = Field(default_factory=lambda: f"sk_test_{secrets.token_urlsafe(24)}")
    dapr_api_token: str = Field(default_factory=_password)
    app_api_token: str = Field(default_factory=_password)
    staff: dict[str, str] = Field(
        default_factory=lambda: {
            f"{role}@waybill.example": _password() for role in ("admin", "staff", "carrier")
        }
    )

    @property
    def own_broker_url(self) -> str:
        user, password = self.rabbitmq_user, self.rabbitmq_password
        return f"amqp://{user}:{password}@{ports.HOST}:{ports.RABBITMQ_AMQP}/waybill"


def external_broker() -> str | None:
    """The URL of a broker that somebody else runs, if this one is to use it."""
    return os.environ.get(BROKER_VARIABLE)


def ensure(project: Project) -> PlatformSecrets:
    """Makes what is missing, and writes what others read; running it again changes nothing."""
    project.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    project.secrets.chmod(0o700)
    platform = _platform(project)
    for service in project.databases:
        login = f"{ports.HOST}:{ports.POSTGRES}:*:{service}:{platform.databases[service].service}"
        write_private(project.secrets / f"{service}.pgpass", f"{login}\n")
    _write_json(project.secrets / "infrastructure.json", _infrastructure(platform))
    _keep(project.secrets / "users.json", "jwt-signing-key", _signing_key)
    _keep(project.secrets / "payments.json", "webhook-secret", _webhook_secret)
    return platform


def load(project: Project) -> PlatformSecrets:
    """What `ensure` made; a PlatformError when nothing was started here yet."""
    path = project.secrets / "platform.json"
    if not path.exists():
        raise PlatformError("This checkout has no secrets yet.", fix="waybill up")
    return PlatformSecrets.model_validate_json(path.read_text())


def _platform(project: Project) -> PlatformSecrets:
    path = project.secrets / "platform.json"
    known = PlatformSecrets.model_validate_json(path.read_text()) if path.exists() else None
    platform = _with_databases(known or PlatformSecrets(), project.databases)
    write_private(path, platform.model_dump_json(indent=2))
    return platform


def _with_databases(platform: PlatformSecrets, names: Iterable[str]) -> PlatformSecrets:
    missing = {name: DatabasePasswords() for name in names if name not in platform.databases}
    return platform.model_copy(update={"databases": platform.databases | missing})


def _infrastructure(platform: PlatformSecrets) -> Mapping[str, Any]:
    """What the sidecars' components refer to by `secretKeyRef`."""
    return {
        "rabbitmq": {"connection-string": external_broker() or platform.own_broker_url},
        "valkey": {"host": f"{ports.HOST}:{ports.VALKEY}", "password": platform.valkey_password},
        "smtp": {"user": platform.smtp_user, "password": platform.smtp_password},
        "payment-provider": {"authorization": f"Bearer {platform.provider_key}"},
    }


def _signing_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _webhook_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}"


def _keep(path: Path, key: str, make: Callable[[], str]) -> None:
    if not path.exists():
        _write_json(path, {key: make()})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_private(path, json.dumps(content, indent=2))


def write_private(path: Path, text: str) -> None:
    """Atomically and with 0600 from the first byte; a file that says so already is left alone."""
    if path.exists() and path.read_text() == text:
        return
    draft = path.with_suffix(f"{path.suffix}.new")
    draft.unlink(missing_ok=True)
    with open(draft, "x", opener=_private) as file:  # Path.open has no opener
        file.write(text)
    draft.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

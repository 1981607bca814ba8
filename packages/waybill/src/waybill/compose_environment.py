"""What `compose.yaml` is told: `python -m waybill.compose_environment` writes `.waybill/compose`.

The addresses are those of the local platform, and so are the secrets; only the certificates that
sidecars prove themselves with are made here, as no container could wait for those of another.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from waybill import credentials, project
from waybill.certificates import Pair, issue, named
from waybill.credentials import PlatformSecrets, write_private
from waybill.parts import rabbitmq
from waybill.project import Project

_LIFETIME = timedelta(days=365)


def write(project: Project) -> Path:
    """Returns the directory, which only we can enter: containers of other users read its files."""
    secrets = credentials.ensure(project)
    folder = project.state / "compose"
    folder.mkdir(mode=0o700, exist_ok=True)
    anchors = folder / "ca.crt"
    if not anchors.exists():
        _write(folder, _certificates())
    _write(folder, _files(project, secrets))
    variables = {**dict(_variables(project, secrets)), "TRUST_ANCHORS": anchors.read_text()}
    # In single quotes Compose takes several lines as they are; no value has a quote.
    lines = "".join(f"{name}='{value}'\n" for name, value in variables.items())
    _write(folder, [("env", lines)])
    return folder


def _write(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    for name, content in files:
        write_private(folder / name, content)
        (folder / name).chmod(0o644)


def _variables(project: Project, secrets: PlatformSecrets) -> Iterator[tuple[str, str]]:
    yield "APP_API_TOKEN", secrets.app_api_token
    yield "DAPR_API_TOKEN", secrets.dapr_api_token
    yield "POSTGRES_PASSWORD", secrets.postgres_password
    yield "VALKEY_PASSWORD", secrets.valkey_password
    yield "SMTP_USER", secrets.smtp_user
    yield "SMTP_PASSWORD", secrets.smtp_password
    yield "PROVIDER_KEY", secrets.provider_key
    payments = json.loads((project.secrets / "payments.json").read_text())
    yield "WEBHOOK_SECRET", payments["webhook-secret"]
    for service, passwords in secrets.databases.items():
        yield f"{service.upper()}_DB", passwords.service
        yield f"{service.upper()}_DB_OWNER", passwords.owner


def _files(project: Project, secrets: PlatformSecrets) -> Iterator[tuple[str, str]]:
    for name in ("infrastructure.json", "users.json", "payments.json"):
        yield name, (project.secrets / name).read_text()
    yield "rabbitmq-users.json", json.dumps(rabbitmq.users(secrets))
    for service, passwords in secrets.databases.items():
        yield f"{service}-db", passwords.service
        yield f"{service}-db-owner", passwords.owner


def _certificates() -> Iterator[tuple[str, str]]:
    """An authority, which only signs, and the issuer below it that sentry signs with."""
    root = _authority("waybill root", path_length=1)
    issuer = _authority("waybill issuer", path_length=0, by=root)
    yield "issuer.key", issuer.key_pem
    yield "issuer.crt", issuer.certificate_pem
    yield "ca.crt", root.certificate_pem  # the last: with it the three are complete


def _authority(name: str, *, path_length: int, by: Pair | None = None) -> Pair:
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return issue(named(name), _LIFETIME, (constraints, True), (usage, True), by=by)


if __name__ == "__main__":
    write(project.find())

"""What `compose.yaml` is told: `python -m waybill.compose_environment` writes `.waybill/compose`.

The addresses are those of the local platform, and so are the secrets; only the certificates that
sidecars prove themselves with are made here, as no container could wait for those of another.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from waybill import credentials, project
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
    root_key, issuer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name = _named("waybill root")
    root = _authority(root_name, root_name, root_key, root_key, path_length=1)
    issuer = _authority(_named("waybill issuer"), root_name, issuer_key, root_key, path_length=0)
    key = issuer_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    yield "issuer.key", key.decode()
    yield "issuer.crt", _pem(issuer)
    yield "ca.crt", _pem(root)  # the last: with it the three are complete


def _authority(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signed_by: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
) -> x509.Certificate:
    now = datetime.now(UTC)
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
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signed_by, hashes.SHA256())
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


if __name__ == "__main__":
    write(project.find())

"""The certificates and kubeconfigs of a cluster that lives for a day."""

import base64
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from waybill.credentials import write_private

_LIFETIME = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)

CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
}
"""Who gets a kubeconfig: the file's name, then the user and the group that the API server sees."""


@dataclass(frozen=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write(self, folder: Path, name: str) -> None:
        write_private(folder / f"{name}.key", _pem(self.key))
        write_private(folder / f"{name}.crt", self.pem)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def make(folder: Path, node: str, address: str, service_address: str, api_port: int) -> None:
    """Fills `folder`; `address` is the node's, `service_address` the API server's within."""
    folder.mkdir(parents=True, mode=0o700)
    authority, front = _authority("waybill-cluster"), _authority("waybill-front-proxy")
    authority.write(folder, "ca")
    front.write(folder, "front-proxy-ca")
    _service_account_keys(folder)

    service = ["kubernetes", "default", "svc", "cluster", "local"]
    names = ["localhost", *(".".join(service[:length]) for length in (1, 2, 3, 5))]
    addresses = ["127.0.0.1", service_address, address]
    api = _issue(authority, "kube-apiserver", hosts=[*names, *addresses])
    api.write(folder, "apiserver")
    kubelet = _issue(authority, f"system:node:{node}", "system:nodes", hosts=[node, address])
    kubelet.write(folder, "kubelet")
    _issue(front, "front-proxy").write(folder, "front-proxy")
    _issue(authority, "apiserver-kubelet", "system:masters").write(folder, "apiserver-kubelet")

    server = f"https://127.0.0.1:{api_port}"
    _kubeconfig(folder, "kubelet", server, authority, kubelet)
    for client, (user, group) in CLIENTS.items():
        _kubeconfig(folder, client, server, authority, _issue(authority, user, group))


def _authority(name: str) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(key, _name(name), _name(name)).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    return _Pair(key, builder.sign(key, hashes.SHA256()))


def _issue(
    authority: _Pair, user: str, group: str | None = None, *, hosts: Sequence[str] = ()
) -> _Pair:
    """For a client, and a server too if it has hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(key, _name(user, group), authority.certificate.subject)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if hosts:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return _Pair(key, builder.sign(authority.key, hashes.SHA256()))


def _builder(
    key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _name(user: str, group: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(attributes)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _service_account_keys(folder: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(folder / "service-accounts.key", _pem(key))
    write_private(folder / "service-accounts.pub", public.decode())


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def _kubeconfig(folder: Path, name: str, server: str, authority: _Pair, client: _Pair) -> None:
    cluster = {"server": server, "certificate-authority-data": _base64(authority.pem)}
    user = {
        "client-certificate-data": _base64(client.pem),
        "client-key-data": _base64(_pem(client.key)),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "waybill", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "waybill", "context": {"cluster": "waybill", "user": name}}],
        "current-context": "waybill",
    }
    write_private(folder / f"{name}.kubeconfig", yaml.safe_dump(config))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

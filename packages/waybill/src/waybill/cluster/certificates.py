"""The certificates and kubeconfigs of a cluster that lives for a day."""

import base64
import ipaddress
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from waybill.certificates import Pair, issue, key_pem, named
from waybill.credentials import write_private

_LIFETIME = timedelta(days=30)

CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
}
"""Who gets a kubeconfig: the file's name, then the user and the group that the API server sees."""


def make(folder: Path, node: str, address: str, service_address: str, api_port: int) -> None:
    """Fills `folder`; `address` is the node's, `service_address` the API server's within."""
    folder.mkdir(parents=True, mode=0o700)
    authority, front = _authority("waybill-cluster"), _authority("waybill-front-proxy")
    _write(folder, "ca", authority)
    _write(folder, "front-proxy-ca", front)
    _service_account_keys(folder)

    service = ["kubernetes", "default", "svc", "cluster", "local"]
    names = ["localhost", *(".".join(service[:length]) for length in (1, 2, 3, 5))]
    addresses = ["127.0.0.1", service_address, address]
    api = _issue(authority, "kube-apiserver", hosts=[*names, *addresses])
    _write(folder, "apiserver", api)
    kubelet = _issue(authority, f"system:node:{node}", "system:nodes", hosts=[node, address])
    _write(folder, "kubelet", kubelet)
    _write(folder, "front-proxy", _issue(front, "front-proxy"))
    _write(folder, "apiserver-kubelet", _issue(authority, "apiserver-kubelet", "system:masters"))

    server = f"https://127.0.0.1:{api_port}"
    _kubeconfig(folder, "kubelet", server, authority, kubelet)
    for client, (user, group) in CLIENTS.items():
        _kubeconfig(folder, client, server, authority, _issue(authority, user, group))


def _write(folder: Path, name: str, pair: Pair) -> None:
    write_private(folder / f"{name}.key", pair.key_pem)
    write_private(folder / f"{name}.crt", pair.certificate_pem)


def _authority(name: str) -> Pair:
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return issue(named(name), _LIFETIME, (constraints, True))


def _issue(
    authority: Pair, user: str, group: str | None = None, *, hosts: Sequence[str] = ()
) -> Pair:
    """For a client, and a server too if it has hosts."""
    usages, extensions = [ExtendedKeyUsageOID.CLIENT_AUTH], list[x509.ExtensionType]()
    if hosts:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        extensions.append(x509.SubjectAlternativeName([_host(host) for host in hosts]))
    extensions.append(x509.ExtendedKeyUsage(usages))
    marked = [(extension, False) for extension in extensions]
    return issue(named(user, group), _LIFETIME, *marked, by=authority)


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
    write_private(folder / "service-accounts.key", key_pem(key))
    write_private(folder / "service-accounts.pub", public.decode())


def _kubeconfig(folder: Path, name: str, server: str, authority: Pair, client: Pair) -> None:
    cluster = {"server": server, "certificate-authority-data": _base64(authority.certificate_pem)}
    user = {
        "client-certificate-data": _base64(client.certificate_pem),
        "client-key-data": _base64(client.key_pem),
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

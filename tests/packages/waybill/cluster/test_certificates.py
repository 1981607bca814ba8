"""The keys of a cluster: who is who, and for whom the servers may speak."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from waybill.cluster import certificates


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "pki"
    certificates.make(folder, "node", "10.240.0.10", "10.96.0.1", 6443)
    return folder


def read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_the_kubelet_is_its_node(keys: Path) -> None:
    subject = read(keys, "kubelet").subject
    [name] = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    [group] = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert (name.value, group.value) == ("system:node:node", "system:nodes")


def test_the_api_server_answers_to_its_service_and_its_addresses(keys: Path) -> None:
    extension = read(keys, "apiserver").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    names = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    assert {"kubernetes.default.svc", "kubernetes.default.svc.cluster.local"} <= set(names)
    assert {str(address) for address in addresses} == {"127.0.0.1", "10.96.0.1", "10.240.0.10"}


@pytest.mark.parametrize("name", ["apiserver", "kubelet", "apiserver-kubelet"])
def test_the_authority_vouches_for_each(keys: Path, name: str) -> None:
    read(keys, name).verify_directly_issued_by(read(keys, "ca"))


def test_keys_are_readable_by_their_owner_only(keys: Path) -> None:
    private = [*keys.glob("*.key"), *keys.glob("*.kubeconfig")]
    assert private
    assert {file.stat().st_mode & 0o777 for file in private} == {0o600}

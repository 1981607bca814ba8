import json
import stat

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from waybill import credentials
from waybill.project import Project


def test_secrets_are_made_once(checkout: Project) -> None:
    first = credentials.ensure(checkout)
    content = {path.name: path.read_text() for path in checkout.secrets.iterdir()}

    assert credentials.ensure(checkout) == first
    assert {path.name: path.read_text() for path in checkout.secrets.iterdir()} == content


def test_only_the_owner_can_read_secrets(checkout: Project) -> None:
    credentials.ensure(checkout)

    assert stat.S_IMODE(checkout.secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in checkout.secrets.iterdir()} == {0o600}


def test_two_checkouts_share_no_secret(
    checkout: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Project(tmp_path_factory.mktemp("other"))
    other.run_file.write_text(checkout.run_file.read_text())

    mine, theirs = credentials.ensure(checkout), credentials.ensure(other)

    assert mine.postgres_password != theirs.postgres_password
    assert mine.databases["orders"].service != theirs.databases["orders"].service


def test_a_service_finds_only_its_own_password_in_its_file(checkout: Project) -> None:
    passwords = credentials.ensure(checkout).databases

    login = (checkout.secrets / "orders.pgpass").read_text()

    assert login == f"127.0.0.1:15432:*:orders:{passwords['orders'].service}\n"
    assert not (checkout.secrets / "gateway.pgpass").exists()


def test_a_service_that_is_added_later_gets_passwords_and_the_others_keep_theirs(
    checkout: Project,
) -> None:
    before = credentials.ensure(checkout).databases["orders"]
    run_file = checkout.run_file.read_text().replace("inventory", "payments")
    checkout.run_file.write_text(run_file)

    after = credentials.ensure(Project(checkout.root)).databases

    assert after["orders"] == before
    assert "payments" in after


def test_the_signing_key_is_rsa_of_2048_bits(checkout: Project) -> None:
    credentials.ensure(checkout)
    pem = json.loads((checkout.secrets / "users.json").read_text())["jwt-signing-key"]

    assert load_pem_private_key(pem.encode(), None).key_size == 2048  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # an RSA key, as asserted


def test_components_are_told_of_a_broker_that_somebody_else_runs(
    checkout: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYBILL_RABBITMQ_URL", "amqp://me:secret@broker/")
    credentials.ensure(checkout)

    infrastructure = json.loads((checkout.secrets / "infrastructure.json").read_text())

    assert infrastructure["rabbitmq"]["connection-string"] == "amqp://me:secret@broker/"

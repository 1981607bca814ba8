"""This checkout's secrets as the files of `k8s/components/secrets`.

`python -m waybill.cluster_secrets` writes them. They have the values of the local platform, where
the services are found at other addresses.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from waybill import credentials, project
from waybill.credentials import PlatformSecrets, write_private
from waybill.parts import rabbitmq
from waybill.project import Project

FOLDER = Path("k8s", "components", "secrets")


def write(project: Project, folder: Path) -> None:
    """Running it again changes nothing."""
    secrets = credentials.ensure(project)
    for name, values in _key_values(project, secrets):
        lines = "".join(f"{key}={value}\n" for key, value in values.items())
        write_private(folder / f"{name}.env", lines)
    write_private(folder / "valkey.conf", f"requirepass {secrets.valkey_password}\n")
    write_private(folder / "rabbitmq-users.json", json.dumps(rabbitmq.users(secrets), indent=2))
    for name in ("users.json", "payments.json"):
        write_private(folder / name, (project.secrets / name).read_text())


def _key_values(
    project: Project, secrets: PlatformSecrets
) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "app-api-token", {"token": secrets.app_api_token}
    yield "dapr-api-token", {"token": secrets.dapr_api_token}
    yield "postgres", _login("postgres", secrets.postgres_password)
    for service, passwords in secrets.databases.items():
        yield f"{service}-db", _login(service, passwords.service)
        yield f"{service}-db-owner", _login(f"{service}_owner", passwords.owner)
    user, password = secrets.rabbitmq_user, secrets.rabbitmq_password
    # With its namespace, for KEDA asks from another one.
    broker = f"amqp://{user}:{password}@rabbitmq.waybill.svc:5672/{rabbitmq.VHOST}"
    yield "rabbitmq", {"connection-string": broker}
    yield "valkey", {"host": "valkey:6379", "password": secrets.valkey_password}
    yield "smtp", {"user": secrets.smtp_user, "password": secrets.smtp_password}
    webhooks = json.loads((project.secrets / "payments.json").read_text())
    yield (
        "payment-provider",
        {
            "authorization": f"Bearer {secrets.provider_key}",
            "api-key": secrets.provider_key,
            **webhooks,
        },
    )


def _login(username: str, password: str) -> Mapping[str, str]:
    return {"username": username, "password": password}


if __name__ == "__main__":
    here = project.find()
    write(here, here.root / FOLDER)

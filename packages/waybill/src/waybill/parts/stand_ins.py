"""What stands in for the outside world: a mail server and a payment provider."""

import json
import sys

from waybill import ports
from waybill.credentials import PlatformSecrets
from waybill.parts.command import infrastructure
from waybill.processes import Supervised
from waybill.project import Project
from waybill.waiting import all_listen


def mail_sink(project: Project, secrets: PlatformSecrets) -> Supervised:
    env = {
        "WAYBILL_MAIL_USER": secrets.smtp_user,
        "WAYBILL_MAIL_PASSWORD": secrets.smtp_password,
    }
    return _module(project, "mail", env, ports.MAIL_SMTP, ports.MAIL_HTTP)


def payment_provider(project: Project, secrets: PlatformSecrets) -> Supervised:
    webhook = json.loads((project.secrets / "payments.json").read_text())["webhook-secret"]
    env = {
        "WAYBILL_PROVIDER_API_KEY": secrets.provider_key,
        "WAYBILL_PROVIDER_WEBHOOK_SECRET": webhook,
    }
    return _module(project, "provider", env, ports.PROVIDER)


def _module(project: Project, name: str, env: dict[str, str], *listening: int) -> Supervised:
    (project.state / name).mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", f"waybill.{name}"]
    command = infrastructure(project, name, argv, env)
    return Supervised(name, command, all_listen(*listening), ports=listening)

"""The mail as its reader sees it: recipient, subject and HTML."""

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from html import unescape
from typing import Any

from iso4217 import Currency
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic_settings import BaseSettings

from notifications.domain import Contact, Notification, is_mail_address


class MailSettings(BaseSettings):
    """`operations_email` gets what concerns the operators, such as low stock."""

    operations_email: str = "operations@waybill.localhost"


@dataclass(frozen=True)
class Mail:
    recipient: str
    subject: str
    html: str


def money(minor_units: int, currency: str) -> str:
    """As in `EUR 1,234.50`, which is clear in any country; yen have no decimals, dinars three."""
    decimals = Currency(currency).exponent or 0
    return f"{currency} {Decimal(minor_units).scaleb(-decimals):,.{decimals}f}"


_templates = Environment(
    loader=PackageLoader("notifications"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@cache
def _settings() -> MailSettings:
    return MailSettings()


def compose(notification: Notification, contact: Contact | None) -> Mail:
    """The mail of a notification, to the operators if there is no contact.

    Raises `ValueError` if it has no usable address, and whatever its template raises.
    """
    recipient = (contact.email if contact else _settings().operations_email) or ""
    if not is_mail_address(recipient):
        raise ValueError(f"{recipient!r} is not one mail address")
    subject, html = render(
        notification.template,
        {
            **notification.params,
            "name": contact and contact.name,
            "order_id": notification.order_id,
        },
    )
    return Mail(recipient, subject, html)


def render(template: str, values: dict[str, Any]) -> tuple[str, str]:
    """Subject and HTML. The subject is one line of printable text, whatever the values hold."""
    page = _templates.get_template(f"{template}.html", globals={"money": money})
    subject = unescape("".join(page.blocks["subject"](page.new_context(values))))
    printable = "".join(c if c.isprintable() else " " for c in subject)
    return " ".join(printable.split()), page.render(values)

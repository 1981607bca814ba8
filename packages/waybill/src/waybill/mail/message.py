"""Reads what a person would read from a raw e-mail."""

from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser


@dataclass(frozen=True)
class Content:
    sender: str
    subject: str
    text: str
    html: str | None


def read_message(raw: bytes) -> Content:
    """`text` is the plain part, or what the HTML part says where there is no plain one."""
    message = message_from_bytes(raw, policy=policy.default)
    html = _part(message, "html")
    text = _part(message, "plain")
    return Content(
        sender=_clean(str(message.get("From", ""))),
        subject=_clean(str(message.get("Subject", ""))),
        text=text if text is not None else _text_of(html or ""),
        html=html,
    )


def _part(message: EmailMessage, subtype: str) -> str | None:
    part = message.get_body((subtype,))
    if part is None:
        return None
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return None
    try:
        body = payload.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:  # a character set that nobody knows
        body = payload.decode("utf-8", "replace")
    return body.replace("\r\n", "\n")


def _clean(header: str) -> str:
    """Raw bytes in a header become surrogates, which neither SQLite nor JSON can carry."""
    return header.encode("utf-8", "replace").decode()


def _text_of(html: str) -> str:
    reader = _TextReader()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.words).splitlines())
    return "\n".join(line for line in lines if line)


class _TextReader(HTMLParser):
    HIDDEN = frozenset({"head", "script", "style", "title"})
    BREAKS = frozenset({"br", "div", "h1", "h2", "h3", "h4", "li", "p", "table", "tr"})

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # HTMLParser's signature
        self._hidden += tag in self.HIDDEN
        self._separate(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in self.HIDDEN and self._hidden > 0
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(" ".join(data.splitlines()))

    def _separate(self, tag: str) -> None:
        if tag in self.BREAKS:
            self.words.append("\n")
        elif tag in {"td", "th"}:
            self.words.append(" ")

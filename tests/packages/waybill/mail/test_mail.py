"""The mail sink: what senders by SMTP are told, and what readers by HTTP see."""

import asyncio
import base64
import smtplib
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from waybill.mail.app import create_app
from waybill.mail.settings import Settings


class Sink:
    """The sink as its two kinds of users meet it."""

    def __init__(self, http: httpx.AsyncClient, smtp_port: int) -> None:
        self.http = http
        self.smtp_port = smtp_port

    async def send(self, *messages: EmailMessage, login: tuple[str, str] | None = None) -> None:
        await asyncio.to_thread(self._send, messages, login)

    def _send(self, messages: tuple[EmailMessage, ...], login: tuple[str, str] | None) -> None:
        with smtplib.SMTP("127.0.0.1", self.smtp_port, "localhost", timeout=10) as smtp:
            if login is not None:
                smtp.login(*login)
            for message in messages:
                smtp.send_message(message)

    async def send_raw(self, raw: bytes) -> None:
        def send() -> None:
            with smtplib.SMTP("127.0.0.1", self.smtp_port, "localhost", timeout=10) as smtp:
                smtp.sendmail("shop@example.com", ["ada@example.com"], raw)

        await asyncio.to_thread(send)

    async def messages(self, **query: str | int) -> list[dict[str, Any]]:
        answer = await self.http.get("/api/messages", params=query)
        answer.raise_for_status()
        return answer.json()["items"]


Start = Callable[..., AbstractAsyncContextManager[Sink]]


@pytest.fixture
def start_sink(tmp_path: Path) -> Start:
    """Start a sink on one state directory, as often as wanted, one at a time."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncGenerator[Sink]:
        defaults: dict[str, Any] = {"state_dir": tmp_path / "mail", "smtp_port": 0}
        app = create_app(Settings(**defaults | settings))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mail") as http,
        ):
            yield Sink(http, app.state.smtp_port)

    return start


@pytest_asyncio.fixture
async def sink(start_sink: Start) -> AsyncGenerator[Sink]:
    async with start_sink() as sink:
        yield sink


def mail(
    subject: str = "Your order is on its way",
    to: str = "ada@example.com",
    text: str | None = "It left today.",
    html: str | None = None,
) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Waybill <shop@example.com>"
    message["To"] = to
    message["Subject"] = subject
    if text is not None:
        message.set_content(text)
    if html is not None:
        (message.set_content if text is None else message.add_alternative)(html, subtype="html")
    return message


async def test_message_sent_by_smtp_is_read_by_http(sink: Sink) -> None:
    await sink.send(mail(subject="Grüße 📦", to="ada@example.com, bob@example.com"))

    [message] = await sink.messages()

    assert message["from"] == "Waybill <shop@example.com>"
    assert message["to"] == ["ada@example.com", "bob@example.com"]
    assert message["subject"] == "Grüße 📦"
    assert message["text"].strip() == "It left today."
    assert message["html"] is None
    assert message["received_at"].endswith("+00:00")
    assert (await sink.http.get(f"/api/messages/{message['id']}")).json() == message


async def test_html_message_keeps_its_markup_and_reads_as_text(sink: Sink) -> None:
    html = "<head><title>t</title></head><style>p {}</style><p>Paid &amp;\npacked</p><b>Bye</b>"
    await sink.send(mail(text=None, html=html), mail(text="Plain.", html="<p>Rich.</p>"))

    both, only_html = await sink.messages()

    assert only_html["html"].strip() == html
    assert only_html["text"] == "Paid & packed\nBye"
    assert (both["text"].strip(), both["html"].strip()) == ("Plain.", "<p>Rich.</p>")


async def test_messages_are_filtered_by_recipient_text_and_position(sink: Sink) -> None:
    await sink.send(
        mail("Order received", "ada@example.com", "one"),
        mail("Order paid", "ADA@example.com", "two 100%"),
        mail("Order paid", "bob@example.com", "three"),
    )
    newest = await sink.messages()

    async def subjects(**query: str | int) -> list[str]:
        return [message["subject"] for message in await sink.messages(**query)]

    assert [message["text"].strip() for message in newest] == ["three", "two 100%", "one"]
    assert await subjects(to="ada@EXAMPLE.com") == ["Order paid", "Order received"]
    assert await subjects(q="PAID") == ["Order paid", "Order paid"]
    assert await subjects(q="0%") == ["Order paid"]
    assert await subjects(q="_") == []
    assert await subjects(limit=1) == ["Order paid"]
    after = await sink.messages(after=newest[-1]["id"])
    assert [message["text"].strip() for message in after] == ["two 100%", "three"]
    listed = await sink.http.get("/api/messages", params={"limit": 1})
    assert listed.json()["total"] == 3


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"after": -1}, {"q": "x" * 201}])
async def test_lists_are_bounded(sink: Sink, query: dict[str, str | int]) -> None:
    assert (await sink.http.get("/api/messages", params=query)).status_code == 422


async def test_all_messages_can_be_deleted(sink: Sink) -> None:
    await sink.send(mail())
    [message] = await sink.messages()

    assert (await sink.http.delete("/api/messages")).status_code == 204

    assert await sink.messages() == []
    assert await sink.messages(to="ada@example.com") == []
    assert (await sink.http.get(f"/api/messages/{message['id']}")).status_code == 404


async def test_only_the_newest_messages_are_kept(start_sink: Start) -> None:
    async with start_sink(keep=2) as sink:
        await sink.send(mail("first"), mail("second"), mail("third"))

        assert [message["subject"] for message in await sink.messages()] == ["third", "second"]
        assert len(await sink.messages(to="ada@example.com")) == 2


async def test_messages_outlive_the_sink(start_sink: Start) -> None:
    async with start_sink() as sink:
        await sink.send(mail())
    async with start_sink() as sink:
        assert len(await sink.messages()) == 1


async def test_sender_must_log_in_where_a_password_is_set(start_sink: Start) -> None:
    async with start_sink(user="waybill", password="right") as sink:
        with pytest.raises(smtplib.SMTPSenderRefused) as anonymous:
            await sink.send(mail())
        for login in (("waybill", "wrong"), ("other", "right")):
            with pytest.raises(smtplib.SMTPAuthenticationError):
                await sink.send(mail(), login=login)
        assert await sink.messages() == []

        await sink.send(mail(), login=("waybill", "right"))

        assert anonymous.value.smtp_code == 530
        assert len(await sink.messages()) == 1


async def test_authentication_without_tls_is_offered_as_sidecars_can_use_it(
    start_sink: Start,
) -> None:
    def asked(port: int) -> tuple[dict[str, str], list[bytes]]:
        with smtplib.SMTP("127.0.0.1", port, "localhost", timeout=10) as smtp:
            smtp.ehlo()
            _, user = smtp.docmd("AUTH", "LOGIN")
            _, password = smtp.docmd(base64.b64encode(b"waybill").decode())
            assert smtp.docmd(base64.b64encode(b"right").decode())[0] == 235
            return smtp.esmtp_features, [base64.b64decode(user), base64.b64decode(password)]

    async with start_sink(user="waybill", password="right") as sink:
        features, challenges = await asyncio.to_thread(asked, sink.smtp_port)

    assert "PLAIN" not in features["auth"]
    assert challenges == [b"Username:", b"Password:"]
    assert "starttls" not in features


async def test_user_without_a_password_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="both the user and the password"):
        Settings(user="waybill")


async def test_message_that_is_too_large_is_refused(sink: Sink) -> None:
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        await sink.send(mail(text="x" * 70 + "\n" + ("y" * 70 + "\n") * 5000))

    assert refused.value.smtp_code == 552
    assert await sink.messages() == []


async def test_too_many_recipients_are_refused(sink: Sink) -> None:
    await sink.send(mail(to=", ".join(f"user{number}@example.com" for number in range(101))))

    [message] = await sink.messages()

    assert len(message["to"]) == 100


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Subject: \xff\xfe\r\n\r\nbody", "body"),
        (b"Subject: a\r\nContent-Type: text/plain; charset=nonsense\r\n\r\nbody", "body"),
        (b"Subject: a\r\nContent-Type: text/plain; charset=ascii\r\n\r\nb\xc3dy", "b\ufffddy"),
        (b"Subject: a\r\nContent-Type: application/pdf\r\n\r\n%PDF", ""),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno parts", ""),
        (b"", ""),
    ],
)
async def test_malformed_message_is_kept_all_the_same(sink: Sink, raw: bytes, text: str) -> None:
    await sink.send_raw(raw)

    [message] = await sink.messages()

    assert message["text"].strip() == text
    assert message["to"] == ["ada@example.com"]


async def test_taken_port_stops_the_start(start_sink: Start) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="address already in use"),
    ):
        async with start_sink(smtp_port=taken.getsockname()[1]):
            pass


@pytest.mark.parametrize("path", ["/", "/mailbox.css", "/mailbox.js"])
async def test_page_needs_nothing_from_elsewhere(sink: Sink, path: str) -> None:
    page = await sink.http.get(path)

    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "://" not in page.text


async def test_health_counts_the_messages(sink: Sink) -> None:
    await sink.send(mail())

    assert (await sink.http.get("/health")).json() == {"status": "ok", "messages": 1}

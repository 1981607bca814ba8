"""Takes e-mails by SMTP."""

import asyncio
import hmac

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from waybill.mail.message import read_message
from waybill.mail.settings import Settings
from waybill.mail.store import Store

MAX_MESSAGE_BYTES = 256 * 1024
MAX_RECIPIENTS = 100
IDLE_TIMEOUT = 60.0


class Reception:
    """aiosmtpd's handler: 250 is said only once the message is kept."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._user = settings.user.encode()
        self._password = settings.password.get_secret_value().encode()

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        known = (
            isinstance(data, LoginPassword)
            and hmac.compare_digest(data.login, self._user)
            and hmac.compare_digest(data.password, self._password)
        )
        return AuthResult(success=known, handled=False)

    async def handle_MAIL(  # noqa: N802  # the name is aiosmtpd's
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._user and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802  # the name is aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  # the name is aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content or b""
        self._store.add(read_message(content), envelope.rcpt_tos)
        return "250 OK: kept"


class _Server(SMTP):
    """Challenges in the words that the sidecar's client insists on."""

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"


async def listen(store: Store, settings: Settings) -> asyncio.Server:
    """Plain SMTP, for it stays on this machine; authentication is offered without TLS."""
    loop = asyncio.get_running_loop()
    reception = Reception(store, settings)

    def session() -> SMTP:
        return _Server(
            reception,
            hostname="localhost",
            ident="Waybill mail sink",
            data_size_limit=MAX_MESSAGE_BYTES,
            enable_SMTPUTF8=True,
            timeout=IDLE_TIMEOUT,
            auth_require_tls=False,
            # Where there is a choice the sidecar's client takes PLAIN, which it refuses to use
            # without TLS for any host but this machine, and in a cluster the sink is another.
            auth_exclude_mechanism=["PLAIN"],
            authenticator=reception.authenticate,
            loop=loop,
        )

    return await loop.create_server(session, settings.host, settings.smtp_port)

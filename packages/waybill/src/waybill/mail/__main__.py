"""Serves the mail sink: `python -m waybill.mail`."""

import logging

import uvicorn

from waybill.mail.app import create_app
from waybill.mail.settings import Settings


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    # aiosmtpd warns, at each login, of an attribute of its own that it is going to drop.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    settings = Settings()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.http_port,
        access_log=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()

"""Serves the payment provider: `python -m waybill.provider`."""

import logging

import uvicorn

from waybill.provider.app import create_app
from waybill.provider.settings import Settings

# A withheld answer keeps its connection for WAYBILL_PROVIDER_HANG seconds, so there must be room
# for many of them beside the ordinary traffic; past it uvicorn answers 503.
MAX_CONNECTIONS = 2_000


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = Settings()  # pyright: ignore[reportCallIssue]  # the environment holds the required ones
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()

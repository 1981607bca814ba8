"""What a process is told by its environment; everything else is YAML of its sidecar."""

from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Read from environment variables of the same names, upper case.

    The two tokens have no default: a service that any caller on the network could feed with
    events must not start.
    """

    database_url: str = ""
    database_pool_size: int = Field(default=8, ge=2)

    app_id: str = ""  # `dapr run` sets it
    dapr_http_port: int = 3500
    dapr_grpc_port: int = 50001
    dapr_api_token: str = ""
    app_api_token: str = Field(min_length=16)

    jwt_issuer: str = "waybill"
    jwt_audience: str = "waybill"

    event_log_days: int = Field(default=30, ge=1)
    idempotency_key_days: int = Field(default=7, ge=1)

    max_body_bytes: int = 256 * 1024
    max_requests_in_flight: int = Field(default=32, ge=1)
    log_level: str = "INFO"
    zipkin_endpoint: str = ""
    failpoints: str = ""


@cache
def settings() -> Settings:
    return Settings()  # pyright: ignore[reportCallIssue]  # the environment holds the required ones

"""What the payment provider is told by its environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from `WAYBILL_PROVIDER_<NAME>`; the two secrets have no default."""

    model_config = SettingsConfigDict(env_prefix="WAYBILL_PROVIDER_")

    api_key: SecretStr
    webhook_secret: SecretStr

    host: str = "127.0.0.1"
    port: int = 8090
    public_url: str = "http://127.0.0.1:8090"
    state_dir: Path = Path(".waybill/provider")

    latency_ms: int = Field(default=20, ge=0)
    """How long every POST takes, as a real provider's does; reads are answered at once."""
    failure_rate: float = Field(default=0, ge=0, le=1)
    """The share of POSTs answered 500 with nothing done."""
    hang: float = Field(default=20, ge=0)
    """Seconds for which the answer to a charge of `pm_card_timeout` is withheld."""

    webhook_url: str = "http://127.0.0.1:8000/api/v1/payments/webhooks/provider"
    webhook_delay_ms: int = Field(default=100, ge=0)
    """From the event to its first delivery; with 0 a webhook may overtake the answer."""
    webhook_backoff: float = Field(default=0.5, gt=0)
    """Seconds before the second attempt; doubled for each further one."""
    webhook_backoff_max: float = Field(default=30, gt=0)
    webhook_concurrency: int = Field(default=16, ge=1)

"""What the mail sink is told by its environment."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from `WAYBILL_MAIL_<NAME>`; with a user and a password, senders must present them."""

    model_config = SettingsConfigDict(env_prefix="WAYBILL_MAIL_")

    host: str = "127.0.0.1"
    smtp_port: int = 2525
    http_port: int = 8025
    state_dir: Path = Path(".waybill/mail")
    user: str = ""
    password: SecretStr = SecretStr("")
    keep: int = Field(default=20_000, ge=1)
    """How many messages are kept; the oldest make room for new ones."""

    @model_validator(mode="after")
    def _user_and_password_go_together(self) -> Self:
        if bool(self.user) != bool(self.password.get_secret_value()):
            raise ValueError("set both the user and the password, or neither")
        return self

"""What a password may cost, told by the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings


class PasswordSettings(BaseSettings):
    """Argon2id as OWASP's password storage cheat sheet has it, and how much of it at a time."""

    argon2_time_cost: int = Field(default=2, ge=1)
    argon2_memory_kib: int = Field(default=19 * 1024, ge=8)
    argon2_parallelism: int = Field(default=1, ge=1)
    password_threads: int = Field(default=2, ge=1)
    password_queue: int = Field(default=64, ge=0)

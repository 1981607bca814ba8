"""What every event is: an immutable fact with a topic and the key of the thing it happened to."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """An immutable value; unknown fields are ignored, so that producers may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(Fact):
    """Something that happened, named in the past tense.

    `topic` is the CloudEvent `type`, by which the broker routes it; `key_field` names the
    field whose value becomes the `subject`. Changes are additive; anything else is a new topic.
    """

    topic: ClassVar[str]
    key_field: ClassVar[str] = "order_id"

    @property
    def key(self) -> str:
        return str(getattr(self, self.key_field))

    @classmethod
    def producer(cls) -> str:
        """The service that publishes it: each has one module in this package."""
        return cls.__module__.rpartition(".")[2]

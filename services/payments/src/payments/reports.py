"""What the provider says of intents and refunds, in an answer or in a webhook."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

Metadata = Annotated[dict[str, str], BeforeValidator(lambda given: given or {})]


class IntentError(BaseModel):
    code: str | None = None


class Intent(BaseModel):
    """What the provider says of a payment intent."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: str
    client_secret: str | None = None
    amount_received: int = 0
    last_payment_error: IntentError | None = None
    metadata: Metadata = {}


class RefundReport(BaseModel):
    """What the provider says of a refund."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: str
    failure_reason: str | None = None
    metadata: Metadata = {}

"""Events of `notifications`."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from contracts.event import Event


class NotificationSent(Event):
    """A message was handed to the mail server. `user_id` is absent for mail to the operators."""

    topic: ClassVar[str] = "notification.sent"
    key_field: ClassVar[str] = "notification_id"

    notification_id: UUID
    template: str
    user_id: UUID | None = None
    order_id: UUID | None = None
    occurred_at: datetime

"""Events of `users`. `user_version` grows by one with each change of the profile."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from contracts.event import Event


class UserEvent(Event):
    key_field: ClassVar[str] = "user_id"

    user_id: UUID
    occurred_at: datetime


class UserProfileEvent(UserEvent):
    user_version: int
    email: str
    name: str
    email_notifications: bool = True


class UserRegistered(UserProfileEvent):
    topic: ClassVar[str] = "user.registered"


class UserUpdated(UserProfileEvent):
    topic: ClassVar[str] = "user.updated"


class UserDeleted(UserEvent):
    topic: ClassVar[str] = "user.deleted"


class UserLoggedIn(UserEvent):
    topic: ClassVar[str] = "user.logged_in"

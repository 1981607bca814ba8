"""HTTP in: what a user has been told, and when."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from chassis.database import Session
from chassis.identity import User
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import and_

from notifications import store
from notifications.domain import Notification, Status, Template

router = APIRouter(prefix="/notifications", tags=["notifications"])


class NotificationRead(BaseModel):
    """`pending` waits to be sent, `failed` was refused for good, `suppressed` was not wanted."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    template: Template
    order_id: UUID | None
    status: Status
    created_at: datetime
    sent_at: datetime | None


class NotificationPage(BaseModel):
    items: list[NotificationRead]
    page: int
    page_size: int
    total: int


class PageQuery(BaseModel):
    order_id: UUID | None = None
    page: Annotated[int, Field(ge=1, le=10_000)] = 1
    page_size: Annotated[int, Field(ge=1, le=100)] = 20


@router.get("")
async def list_notifications(
    caller: User, session: Session, query: Annotated[PageQuery, Query()]
) -> NotificationPage:
    """The caller's own, the newest first."""
    visible = Notification.user_id == caller.user_id
    if query.order_id:
        visible = and_(visible, Notification.order_id == query.order_id)
    offset = (query.page - 1) * query.page_size
    notifications, total = await store.page(session, visible, offset=offset, limit=query.page_size)
    return NotificationPage(
        items=[NotificationRead.model_validate(notification) for notification in notifications],
        page=query.page,
        page_size=query.page_size,
        total=total,
    )

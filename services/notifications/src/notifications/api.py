"""HTTP in: what a user has been told, and when."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from chassis.database import Session
from chassis.identity import User
from chassis.paging import Page, PageQuery
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
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


class NotificationQuery(PageQuery):
    order_id: UUID | None = None


@router.get("")
async def list_notifications(
    caller: User, session: Session, query: Annotated[NotificationQuery, Query()]
) -> Page[NotificationRead]:
    """The caller's own, the newest first."""
    visible = Notification.user_id == caller.user_id
    if query.order_id:
        visible = and_(visible, Notification.order_id == query.order_id)
    notifications, total = await store.page(session, visible, query)
    return Page[NotificationRead].of(query, notifications, total)

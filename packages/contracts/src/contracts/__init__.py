"""The events that services exchange: one module per producer."""

from contracts import catalog, inventory, notifications, orders, payments, tracking, users
from contracts.event import Event

ALL_EVENTS: tuple[type[Event], ...] = (
    users.UserRegistered,
    users.UserUpdated,
    users.UserDeleted,
    users.UserLoggedIn,
    catalog.ProductUpdated,
    orders.OrderCreated,
    orders.OrderStatusChanged,
    orders.OrderCancellationRequested,
    orders.OrderCancelled,
    inventory.StockReserved,
    inventory.StockRejected,
    inventory.StockReleased,
    inventory.LowStock,
    payments.PaymentSucceeded,
    payments.PaymentFailed,
    payments.PaymentRefunded,
    tracking.ShipmentCreated,
    tracking.ShipmentUpdated,
    tracking.ShipmentVoided,
    notifications.NotificationSent,
)

__all__ = ["ALL_EVENTS", "Event"]

"""Errors in the shape in which Stripe answers them."""

from typing import Any


class ApiError(Exception):
    """A refusal: nothing has changed, and no idempotency key remembers it."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        error_type: str = "invalid_request_error",
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(error_type, message, **details)


class UnexpectedStateError(ApiError):
    """The payment intent is not in a state that allows what was asked."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, code="payment_intent_unexpected_state", **details)


def error_body(error_type: str, message: str, **details: Any) -> dict[str, Any]:
    return {"error": {"type": error_type, "message": message, **details}}


def unauthorized(message: str) -> ApiError:
    return ApiError(message, status=401)


def no_such(noun: str, object_id: str, *, param: str, status: int = 400) -> ApiError:
    """404 when the id is in the path, 400 when it came as a parameter."""
    return ApiError(
        f"No such {noun}: '{object_id}'", status=status, code="resource_missing", param=param
    )


def key_reused(key: str) -> ApiError:
    return ApiError(
        "Keys for idempotent requests can only be used with the same endpoint and parameters they "
        f"were first used with. Try using a key other than '{key}' if you meant to execute a "
        "different request.",
        error_type="idempotency_error",
    )


def key_in_use(key: str) -> ApiError:
    return ApiError(
        "There is currently another in-progress request using this Idempotent Key (that probably "
        "means you submitted twice, and the other request is still going through): "
        f"{key}. Please try again later.",
        status=409,
        code="idempotency_key_in_use",
    )

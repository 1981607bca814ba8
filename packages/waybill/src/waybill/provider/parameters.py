"""Reads form-encoded parameters with nested keys, and refuses what Stripe would refuse."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails
from starlette.requests import Request

from waybill.provider.errors import ApiError

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200
MAX_AMOUNT = 99_999_999

_NAME = re.compile(r"(?P<root>[^\[\]]+)(?P<keys>(\[[^\[\]]*\]){0,3})")
_KEY = re.compile(r"\[([^\[\]]*)\]")

_AND = re.compile(r"\s+AND\s+(?=status|metadata\[)")
_CLAUSE = re.compile(
    r"(status|metadata\[(?P<q>['\"])(?P<key>.+?)(?P=q)\]):(?P<p>['\"])(?P<value>.*)(?P=p)"
)

Tree = dict[str, Any]


async def form_of(request: Request) -> Tree:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(f"The request is larger than {MAX_BODY_BYTES} bytes.", status=413)
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if body and content_type != "application/x-www-form-urlencoded":
        raise ApiError("The request's content type must be application/x-www-form-urlencoded.")
    try:
        return decode(body.decode())
    except UnicodeDecodeError as error:
        raise ApiError("The request is not UTF-8.") from error


def decode(encoded: str) -> Tree:
    """`a=1&b[c]=2&d[]=3` as `{"a": "1", "b": {"c": "2"}, "d": {"0": "3"}}`."""
    try:
        pairs = parse_qsl(
            encoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise ApiError(f"Invalid request: {error}") from error
    tree: Tree = {}
    for name, value in pairs:
        _put(tree, name, value)
    return tree


def _put(tree: Tree, name: str, value: str) -> None:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ApiError(f"Invalid parameter name: {name}", param=name)
    *parents, last = [match["root"], *_KEY.findall(match["keys"])]
    for key in parents:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):  # pyright: ignore[reportUnnecessaryIsInstance]  # a leaf may stand where a branch is wanted
            raise ApiError(f"Invalid parameter: {name}", param=name)
    tree[last or str(len(tree))] = value


def _as_list(value: object) -> object:
    return list(cast("Tree", value).values()) if isinstance(value, dict) else value


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", str_max_length=5_000)


Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=40)],
        Annotated[str, StringConstraints(max_length=500)],
    ],
    Field(max_length=50),
]
Currency = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[a-zA-Z]{3}$")]
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT)]


class AutomaticPaymentMethods(Parameters):
    enabled: bool
    allow_redirects: Literal["always", "never"] = "always"


class CreateIntent(Parameters):
    amount: Amount
    currency: Currency
    payment_method: str | None = None
    confirm: bool = False
    description: str | None = None
    return_url: HttpUrl | None = None
    metadata: Metadata = {}
    # Clients send these two as a matter of course; cards are all there is to choose.
    payment_method_types: Annotated[
        Sequence[Literal["card"]], BeforeValidator(_as_list), Field(min_length=1)
    ] = ("card",)
    automatic_payment_methods: AutomaticPaymentMethods | None = None


class ConfirmIntent(Parameters):
    payment_method: str | None = None
    client_secret: str | None = None
    return_url: HttpUrl | None = None


class CancelIntent(Parameters):
    cancellation_reason: (
        Literal["duplicate", "fraudulent", "requested_by_customer", "abandoned"] | None
    ) = None


class CreateRefund(Parameters):
    payment_intent: str
    amount: Amount | None = None
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"] | None = None
    metadata: Metadata = {}


class ListObjects(Parameters):
    limit: int = Field(default=10, ge=1, le=100)
    starting_after: str | None = None


class ListByIntent(ListObjects):
    payment_intent: str | None = None


class SearchIntents(Parameters):
    query: str
    limit: int = Field(default=10, ge=1, le=100)
    page: str | None = None

    def conditions(self) -> tuple[dict[str, str], str | None]:
        """The metadata and the status that Stripe's query language asks for, joined by AND."""
        metadata: dict[str, str] = {}
        status: str | None = None
        for clause in _AND.split(self.query.strip()):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise ApiError(
                    f"We were unable to parse your search query: {clause}", param="query"
                )
            if match["key"]:
                metadata[match["key"]] = match["value"]
            else:
                status = match["value"]
        return metadata, status


_ParametersT = TypeVar("_ParametersT", bound=Parameters)


def read(model: type[_ParametersT], tree: Tree) -> _ParametersT:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0]) from error


def _refusal(error: ErrorDetails) -> ApiError:
    root, *keys = [str(part) for part in error["loc"]]
    param = root + "".join(f"[{key}]" for key in keys)
    value: object = error["input"]
    if error["type"] == "missing":
        return ApiError(f"Missing required param: {param}.", code="parameter_missing", param=param)
    if error["type"] == "extra_forbidden":
        return ApiError(
            f"Received unknown parameter: {param}", code="parameter_unknown", param=param
        )
    if value == "":
        message = f"You passed an empty string for '{param}'."
        return ApiError(message, code="parameter_invalid_empty", param=param)
    code = "parameter_invalid_integer" if error["type"] in _OF_INTEGERS else "parameter_invalid"
    return ApiError(f"Invalid {param}: {error['msg']}", code=code, param=param)


_OF_INTEGERS = {"int_parsing", "int_type", "greater_than_equal", "less_than_equal"}

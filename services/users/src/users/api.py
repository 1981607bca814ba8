"""HTTP in: registering, logging in and out, profiles, and the keys that verify tokens."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from chassis.database import Session
from chassis.identity import JWKS_PATH, Admin, Caller, Role, User
from chassis.paging import Page, PageQuery
from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from users import store, use_cases
from users.access_tokens import LIFETIME, access_tokens
from users.domain import LoginSession, normalise_email, normalise_password
from users.use_cases import Tokens

router = APIRouter(prefix="/users", tags=["users"])
keys = APIRouter(tags=["keys"])

# PostgreSQL takes no NUL, and a name with a line break in it has no business in a mail's subject.
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^\P{Cc}+$"),
]
Email = Annotated[str, Field(max_length=254), AfterValidator(normalise_email)]
Phone = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{6,14}$")]
NewPassword = Annotated[
    str, Field(min_length=8, max_length=128, repr=False), AfterValidator(normalise_password)
]
GivenPassword = Annotated[
    str, Field(min_length=1, max_length=128, repr=False), AfterValidator(normalise_password)
]


class Registration(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    email: Email
    password: NewPassword
    name: Text


class Login(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    email: Email
    password: GivenPassword


class Refresh(BaseModel):
    refresh_token: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,100}$", repr=False)]


class TokensRead(BaseModel):
    """`expires_in` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  # a scheme, no secret
    expires_in: int = int(LIFETIME.total_seconds())


class SessionRead(BaseModel):
    id: UUID
    user_agent: str
    current: bool
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, login: LoginSession, caller: Caller) -> Self:
        return cls(
            id=login.id,
            user_agent=login.user_agent,
            current=login.id == caller.session_id,
            created_at=login.created_at,
            last_used_at=login.last_used_at,
            expires_at=login.expires_at,
        )


class Address(BaseModel):
    line1: Text
    city: Text
    postal_code: Annotated[Text, StringConstraints(max_length=20)]
    country: Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]


class ProfileUpdate(BaseModel):
    """Replaces the profile whose `version` was read before; what is left out is emptied."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    name: Text
    email_notifications: bool
    phone: Phone | None = None
    default_address: Address | None = None


class UserUpdate(ProfileUpdate):
    role: Role
    disabled: bool


class UserRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str
    name: str
    role: Role
    disabled: bool
    email_notifications: bool
    phone: str | None
    default_address: Address | None
    version: int
    created_at: datetime
    updated_at: datetime


class UserQuery(PageQuery):
    q: Text | None = None


@router.post("/register", status_code=201)
async def register(body: Registration, response: Response) -> UserRead:
    account, replayed = await use_cases.register(body.email, body.password, body.name)
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return UserRead.model_validate(account)


@router.post("/login")
async def log_in(
    body: Login, response: Response, user_agent: Annotated[str, Header()] = ""
) -> TokensRead:
    tokens = await use_cases.log_in(body.email, body.password, user_agent[:200])
    return _handed_over(tokens, response)


@router.post("/refresh")
async def refresh(body: Refresh, response: Response) -> TokensRead:
    return _handed_over(await use_cases.refresh(body.refresh_token), response)


def _handed_over(tokens: Tokens, response: Response) -> TokensRead:
    response.headers["Cache-Control"] = "no-store"
    return TokensRead(access_token=tokens.access, refresh_token=tokens.refresh)


@router.post("/logout", status_code=204)
async def log_out(caller: User, session: Session) -> None:
    """Ends the session that the access token belongs to, if it has not ended before."""
    if caller.session_id:
        await store.end_session(session, caller.user_id, caller.session_id)


@router.get("/me/sessions")
async def list_sessions(
    caller: User, session: Session, query: Annotated[PageQuery, Query()]
) -> Page[SessionRead]:
    logins, total = await store.sessions_of(session, caller.user_id, datetime.now(UTC), query)
    items = [SessionRead.of(login, caller) for login in logins]
    return Page[SessionRead].of(query, items, total)


@router.delete("/me/sessions", status_code=204)
async def end_sessions(caller: User, session: Session) -> None:
    """Logs out everywhere."""
    await store.end_sessions(session, caller.user_id)


@router.delete("/me/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, caller: User, session: Session) -> None:
    await use_cases.end_session(session, caller.user_id, session_id)


@router.get("/me")
async def get_me(caller: User, session: Session) -> UserRead:
    return UserRead.model_validate(await use_cases.get_account(session, caller.user_id))


@router.put("/me")
async def update_me(body: ProfileUpdate, caller: User, session: Session) -> UserRead:
    return await _update(session, caller.user_id, body)


@router.delete("/me", status_code=204)
async def delete_me(caller: User, session: Session) -> None:
    """Forgets the person; what points to the account, such as orders, stays."""
    await use_cases.delete_account(session, caller.user_id)


@router.get("")
async def list_users(
    _: Admin, session: Session, query: Annotated[UserQuery, Query()]
) -> Page[UserRead]:
    """`q` is looked for in e-mail addresses and names."""
    found, total = await store.accounts(session, query.q, query)
    return Page[UserRead].of(query, found, total)


@router.get("/{user_id}")
async def get_user(user_id: UUID, _: Admin, session: Session) -> UserRead:
    return UserRead.model_validate(await use_cases.get_account(session, user_id))


@router.put("/{user_id}")
async def update_user(user_id: UUID, body: UserUpdate, _: Admin, session: Session) -> UserRead:
    return await _update(session, user_id, body)


@router.delete("/{user_id}", status_code=204)
async def delete_user(user_id: UUID, _: Admin, session: Session) -> None:
    await use_cases.delete_account(session, user_id)


async def _update(session: Session, user_id: UUID, body: ProfileUpdate) -> UserRead:
    changes = body.model_dump(exclude={"version"})
    account = await use_cases.change_account(session, user_id, changes, body.version)
    return UserRead.model_validate(account)


@keys.get("/" + JWKS_PATH)
async def get_keys(response: Response) -> dict[str, Any]:
    """The JSON Web Key Set that verifies access tokens."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return access_tokens.key_set

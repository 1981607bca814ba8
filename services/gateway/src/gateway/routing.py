"""What can be reached from outside: one table, and nothing beside it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from chassis.problems import NotFound

PREFIX = "/api/v1"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
_READS = ("GET", "HEAD")


@dataclass(frozen=True)
class Area:
    """The service behind a first path segment, and what it offers to callers without a token.

    `open_posts` are paths below the segment with the name of their rate limit; all else is
    limited under the segment's own name.
    """

    app_id: str
    open_reads: bool = False
    open_posts: Mapping[str, str] = field(default_factory=dict[str, str])


AREAS: Mapping[str, Area] = {
    "users": Area(
        "users",
        open_posts={"/register": "register", "/login": "login", "/refresh": "users"},
    ),
    "products": Area("catalog", open_reads=True),
    "inventory": Area("inventory", open_reads=True),
    "orders": Area("orders"),
    "payments": Area("payments", open_posts={"/webhooks/provider": "webhooks"}),
    "shipments": Area("tracking"),
    "tracking": Area("tracking", open_reads=True),
    "notifications": Area("notifications"),
    "dead-letters": Area("dashboard"),
}
LIMIT_NAMES = frozenset(AREAS).union(*(area.open_posts.values() for area in AREAS.values()))


class Access(Enum):
    """What a route makes of the caller's access token.

    `OPEN` routes verify one that is sent. `TOKENLESS` ones do not look: a client that refreshes
    or logs in often still sends the token that has just expired.
    """

    PROTECTED = "protected"
    OPEN = "open"
    TOKENLESS = "tokenless"


@dataclass(frozen=True)
class Target:
    """Where a request goes; `path` is the service's own, without a leading slash."""

    app_id: str
    path: str
    access: Access
    limit: str


class NoSuchRoute(NotFound):
    pass


# Nothing that a sidecar, a framework or a proxy on the way could read in two ways: no escapes, no
# empty or dot segments, no backslash, no parameters. No id or SKU of ours needs any of these.
_PATH = re.compile(
    re.escape(PREFIX)
    + r"/(?P<area>[a-z]+(?:-[a-z]+)?)(?P<rest>(?:/[A-Za-z0-9_][A-Za-z0-9._:-]{0,127}){0,6})",
    re.ASCII,
)


def resolve(method: str, raw_path: str) -> Target:
    """Where a request goes by its path as it was sent, undecoded; raises `NoSuchRoute`."""
    match = _PATH.fullmatch(raw_path)
    area = AREAS.get(match["area"]) if match else None
    if match is None or area is None:
        raise NoSuchRoute("There is nothing at this path.")
    name, rest = match["area"], match["rest"]
    access = access_to(method, name, rest)
    limit = area.open_posts[rest] if access is Access.TOKENLESS else name
    return Target(area.app_id, name + rest, access, limit)


def access_to(method: str, area: str, rest: str) -> Access:
    if method == "POST" and rest in AREAS[area].open_posts:
        return Access.TOKENLESS
    if method in _READS and AREAS[area].open_reads:
        return Access.OPEN
    return Access.PROTECTED

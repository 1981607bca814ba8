"""The client repeats what may be repeated, in measure, and tells of every request."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from waybill.load import client as clients
from waybill.load.client import NO_ANSWER, TRIES, Client, GaveUp, RateLimited, first_error
from waybill.shop import Refused


class Requests:
    """Answers one after the other; the last one for ever."""

    def __init__(self, *answers: Exception | str) -> None:
        self._answers = answers
        self.sent = 0

    async def __call__(self) -> str:
        answer = self._answers[min(self.sent, len(self._answers) - 1)]
        self.sent += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


def refused(status: int, retry_after: float = 0) -> Refused:
    return Refused("POST /orders", status, {}, retry_after)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client paused, which it does at once here."""
    seen: list[float] = []

    async def pause(seconds: float) -> None:
        seen.append(seconds)

    monkeypatch.setattr(clients.asyncio, "sleep", pause)
    return seen


@pytest.mark.parametrize(
    "trouble",
    [refused(502), refused(503), refused(504), aiohttp.ClientConnectionError(), TimeoutError()],
)
async def test_a_request_without_an_answer_is_repeated(
    trouble: Exception, pauses: list[float]
) -> None:
    client, requests = Client(1), Requests(trouble, "created")
    assert await client.insist("order", requests) == "created"
    assert requests.sent == 2
    expected = str(trouble.status) if isinstance(trouble, Refused) else NO_ANSWER
    assert [sample.error for sample in client.samples] == [expected, None]
    assert (client.errors, client.given_up) == (1, 0)


async def test_the_client_stays_away_as_long_as_it_is_asked_to(pauses: list[float]) -> None:
    await Client(1).insist("order", Requests(refused(503, retry_after=7), "created"))
    assert pauses[0] >= 7


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500])
async def test_any_other_answer_is_the_answer(status: int, pauses: list[float]) -> None:
    requests = Requests(refused(status))
    with pytest.raises(Refused):
        await Client(1).insist("order", requests)
    assert requests.sent == 1


async def test_tries_are_bounded_and_further_and_further_apart(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PATIENCE_SECONDS", 10**6)
    client, requests = Client(1), Requests(refused(503))
    with pytest.raises(GaveUp):
        await client.insist("order", requests)
    assert requests.sent == TRIES
    assert client.given_up == 1
    assert pauses[0] < pauses[2] < pauses[4] <= max(pauses) <= clients.LONGEST_PAUSE_SECONDS


async def test_patience_ends_though_tries_are_left(pauses: list[float]) -> None:
    requests = Requests(refused(503, retry_after=clients.PATIENCE_SECONDS))
    with pytest.raises(GaveUp):
        await Client(1).insist("order", requests)
    assert requests.sent == 1


async def test_a_rate_limit_ends_the_load_and_says_what_to_do(pauses: list[float]) -> None:
    with pytest.raises(RateLimited, match="WAYBILL_RATE_LIMITS=off waybill up"):
        await Client(1).insist("order", Requests(refused(429)))


async def test_a_request_that_was_cut_off_is_told_of() -> None:
    client = Client(1)
    forever: Callable[[], Awaitable[None]] = asyncio.Event().wait  # pyright: ignore[reportAssignmentType]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.insist("order", forever), 0.01)
    assert [sample.error for sample in client.samples] == [NO_ANSWER]


async def test_of_a_group_of_errors_the_first_is_raised() -> None:
    with pytest.raises(RateLimited), first_error():
        raise ExceptionGroup("two", [RateLimited(refused(429)), ValueError()])

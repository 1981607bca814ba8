"""What a load has shown: throughput, latency, errors and the cost of an order."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from waybill.load.client import Sample
from waybill.load.cpu import DRIVER
from waybill.load.outcomes import Outcome

VERSION = 1


@dataclass(frozen=True)
class Percentiles:
    """Of `count` values, in the values' unit."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Percentiles | None":
        """None for no values."""
        found = sorted(values)
        if not found:
            return None
        cuts = statistics.quantiles(found, n=100, method="inclusive") if found[1:] else found * 99
        return cls(len(found), cuts[49], cuts[94], cuts[98], found[-1])


@dataclass(frozen=True)
class Second:
    """What fell into one second: `at` is its beginning, in seconds since that of the load."""

    at: int
    accepted: int
    completed: int
    errors: int


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU over `seconds` on the clock: by process, and of all on this machine."""

    seconds: float
    processes: Mapping[str, float]
    machine: float

    @property
    def platform(self) -> float:
        return sum(self.processes.values()) - self.driver

    @property
    def driver(self) -> float:
        return self.processes.get(DRIVER, 0)

    @property
    def strangers(self) -> float:
        """What else the machine did, which slows what is measured here."""
        return max(0, self.machine - self.platform - self.driver)


@dataclass(frozen=True)
class Report:
    """Arrivals went on from `started_at` to `ended_at` (epoch), then those under way ended.

    `not_sent` arrivals met the bound of errands in flight; `given_up` requests got no answer in
    all their tries; `abandoned` errands were still under way at the end of patience. `lateness`
    is how long after their time arrivals were sent off, in seconds: large values mean that the
    driver, not the platform, was too slow. `mails_waiting` were not sent by the time of the report,
    so that what they cost is not in it.
    """

    seed: int
    parameters: Mapping[str, Any]
    started_at: float
    ended_at: float
    samples: Sequence[Sample]
    outcomes: Sequence[Outcome]
    cost: Cost
    not_sent: int
    given_up: int
    abandoned: int
    mails_waiting: int
    lateness: Percentiles | None

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at

    @property
    def accepted(self) -> int:
        return len(self.outcomes)

    @cached_property
    def completed(self) -> int:
        return sum(outcome.completed_at is not None for outcome in self.outcomes)

    @cached_property
    def lost(self) -> list[str]:
        """Ids of orders that were accepted and are not in the database."""
        return [outcome.order_id for outcome in self.outcomes if outcome.status is None]

    @cached_property
    def waiting_for_customers(self) -> int:
        return sum(outcome.waits_for_customer for outcome in self.outcomes)

    @property
    def unfinished(self) -> int:
        """Neither complete nor lost, nor waiting for the customer's approval."""
        return self.accepted - self.completed - len(self.lost) - self.waiting_for_customers

    @property
    def accepted_per_second(self) -> float:
        return self._rate(outcome.accepted_at for outcome in self.outcomes)

    @property
    def completed_per_second(self) -> float:
        """While customers arrived: what was left over when they ceased does not count."""
        return self._rate(o.completed_at for o in self.outcomes if o.completed_at)

    def _rate(self, times: Iterable[float]) -> float:
        return sum(at <= self.ended_at for at in times) / self.seconds

    @cached_property
    def latencies(self) -> dict[str, Percentiles]:
        """Seconds from request to answer, of those answered with 2xx, by kind."""
        by_kind: defaultdict[str, list[float]] = defaultdict(list)
        for sample in self.samples:
            if sample.error is None:
                by_kind[sample.kind].append(sample.seconds)
        found = {kind: Percentiles.of(seconds) for kind, seconds in sorted(by_kind.items())}
        return {kind: percentiles for kind, percentiles in found.items() if percentiles}

    @cached_property
    def errors(self) -> dict[str, dict[str, int]]:
        """How many requests were not answered with 2xx, by kind and by status."""
        counts = Counter((s.kind, s.error) for s in self.samples if s.error is not None)
        by_kind: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (kind, error), count in sorted(counts.items()):
            by_kind[kind][error] = count
        return dict(by_kind)

    @cached_property
    def time_to_tracking(self) -> Percentiles | None:
        """Seconds from an order's placing to its tracking number."""
        return Percentiles.of(s for o in self.outcomes if (s := o.seconds_to_tracking) is not None)

    @cached_property
    def timeline(self) -> list[Second]:
        """Every second from the first arrival to the last thing that happened."""
        accepted = self._per_second(o.accepted_at for o in self.outcomes)
        completed = self._per_second(o.completed_at for o in self.outcomes if o.completed_at)
        errors = self._per_second(s.at + s.seconds for s in self.samples if s.error is not None)
        end = max([int(self.seconds), *accepted, *completed, *errors])
        return [Second(at, accepted[at], completed[at], errors[at]) for at in range(end + 1)]

    def _per_second(self, times: Iterable[float]) -> Counter[int]:
        return Counter(max(0, int(at - self.started_at)) for at in times)

    @property
    def cpu_per_order(self) -> dict[str, float]:
        """Milliseconds of CPU for each accepted order, by process; the rest of the mix included."""
        orders = max(1, self.accepted)
        return {name: 1000 * spent / orders for name, spent in self.cost.processes.items()}

    def as_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "parameters": dict(self.parameters),
            "started_at": self.started_at,
            "seconds": self.seconds,
            "orders": dict(self._counts()),
            "arrivals": {
                "not_sent": self.not_sent,
                "given_up": self.given_up,
                "abandoned": self.abandoned,
                "lateness": self.lateness and asdict(self.lateness),
            },
            "latencies": {kind: asdict(found) for kind, found in self.latencies.items()},
            "errors": self.errors,
            "cpu": {**asdict(self.cost), "milliseconds_per_order": self.cpu_per_order},
            "timeline": [asdict(second) for second in self.timeline],
        }

    def _counts(self) -> Iterator[tuple[str, Any]]:
        yield "accepted", self.accepted
        yield "completed", self.completed
        yield "accepted_per_second", self.accepted_per_second
        yield "completed_per_second", self.completed_per_second
        yield "waiting_for_customers", self.waiting_for_customers
        yield "unfinished", self.unfinished
        yield "lost", self.lost
        yield "mails_waiting", self.mails_waiting
        yield "time_to_tracking", self.time_to_tracking and asdict(self.time_to_tracking)

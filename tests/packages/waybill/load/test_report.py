"""The report counts what happened, once, and in the right place."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waybill.load import cpu
from waybill.load.client import NO_ANSWER, Sample
from waybill.load.cpu import DRIVER, Meter
from waybill.load.outcomes import Outcome
from waybill.load.report import Cost, Percentiles, Report
from waybill.load.tables import tables

BEGAN = 1_000.0

TRACKED = Outcome("a", BEGAN + 0.5, "processing", BEGAN + 0.4, tracked_at=BEGAN + 1.4)
DECLINED = Outcome("b", BEGAN + 1.5, "cancelled", BEGAN + 1.4, cancelled_at=BEGAN + 3.2)
WAITING = Outcome("c", BEGAN + 1.6, "pending", BEGAN + 1.5, waits_for_customer=True)
STUCK = Outcome("d", BEGAN + 1.7, "pending", BEGAN + 1.6)
LOST = Outcome("e", BEGAN + 1.8)

REPORT = Report(
    seed=1,
    parameters={"rate": 10.0},
    started_at=BEGAN,
    ended_at=BEGAN + 2,
    samples=[
        Sample("order", BEGAN, 0.1, None),
        Sample("order", BEGAN, 0.3, None),
        Sample("order", BEGAN + 4, 0.9, "503"),
        Sample("order", BEGAN, 30.0, NO_ANSWER),
        Sample("product", BEGAN, 0.2, "404"),
    ],
    outcomes=[TRACKED, DECLINED, WAITING, STUCK, LOST],
    cost=Cost(4, {"orders": 1.0, "orders-daprd": 0.5, "rabbitmq": 0.5, DRIVER: 0.2}, 3.0),
    not_sent=2,
    given_up=1,
    abandoned=0,
    mails_waiting=0,
    lateness=None,
)


@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1))
def test_percentiles_lie_among_the_values_and_in_order(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found
    assert found.count == len(values)
    assert found.max == max(values)
    ordered = [min(values), found.p50, found.p95, found.p99, found.max]
    assert all(low <= high * (1 + 1e-9) for low, high in pairwise(ordered))


def test_percentiles_of_a_hundred_and_one_values_are_those_at_their_place() -> None:
    found = Percentiles.of(range(101))
    assert found == Percentiles(101, 50, 95, 99, 100)


def test_there_are_no_percentiles_of_nothing() -> None:
    assert Percentiles.of([]) is None


def test_every_accepted_order_is_counted_once() -> None:
    assert (REPORT.accepted, REPORT.completed) == (5, 2)
    assert (REPORT.waiting_for_customers, REPORT.unfinished, REPORT.lost) == (1, 1, ["e"])


def test_a_tracked_order_that_was_cancelled_later_was_complete_when_it_was_tracked() -> None:
    voided = replace(TRACKED, status="cancelled", cancelled_at=BEGAN + 9)
    assert voided.completed_at == TRACKED.tracked_at


def test_throughput_is_of_the_time_in_which_customers_arrived() -> None:
    assert REPORT.accepted_per_second == 2.5
    assert REPORT.completed_per_second == 0.5


def test_the_timeline_has_every_second_and_adds_up() -> None:
    timeline = REPORT.timeline
    assert [second.at for second in timeline] == list(range(31))
    assert [second.accepted for second in timeline[:3]] == [1, 4, 0]
    assert [second.completed for second in timeline[:4]] == [0, 1, 0, 1]
    assert timeline[4].errors == timeline[30].errors == 1
    assert sum(second.accepted for second in timeline) == REPORT.accepted
    assert sum(second.completed for second in timeline) == REPORT.completed


def test_latency_is_of_answers_and_errors_are_counted_by_status() -> None:
    assert list(REPORT.latencies) == ["order"]
    assert REPORT.latencies["order"].count == 2
    assert REPORT.latencies["order"].max == 0.3
    assert REPORT.errors == {"order": {"503": 1, NO_ANSWER: 1}, "product": {"404": 1}}


def test_time_to_tracking_is_of_the_orders_that_have_a_number() -> None:
    assert REPORT.time_to_tracking
    assert (REPORT.time_to_tracking.count, REPORT.time_to_tracking.p50) == (1, pytest.approx(1.0))


def test_what_others_do_on_the_machine_is_told_apart() -> None:
    cost = REPORT.cost
    assert (cost.platform, cost.driver) == (2.0, pytest.approx(0.2))
    assert cost.strangers == pytest.approx(0.8)
    assert REPORT.cpu_per_order["orders"] == 200


def test_a_process_that_was_started_anew_counts_from_its_start() -> None:
    before = Meter({"orders": (10, 5.0), "users": (11, 1.0)}, 0)
    after = Meter({"orders": (99, 2.0), "users": (11, 1.5)}, 0)
    assert cpu.spent(before, after) == {"orders": 2.0, "users": 0.5}


def test_the_report_can_be_written_as_json_and_shown() -> None:
    written = json.loads(json.dumps(REPORT.as_dict()))
    assert written["orders"]["lost"] == ["e"]
    assert len(written["timeline"]) == 31
    assert [table.row_count for table in tables(REPORT)] == [5, 2, 5]

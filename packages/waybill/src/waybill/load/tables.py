"""A report as people read it."""

from collections.abc import Iterator, Mapping

from rich.table import Table

from waybill.load.cpu import DRIVER
from waybill.load.report import Percentiles, Report

_SIDECAR = "-daprd"
_MILLISECONDS = 1000


def tables(report: Report) -> Iterator[Table]:
    yield _orders(report)
    yield _requests(report)
    yield _cpu(report)


def _orders(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    for title, text in _lines(report):
        table.add_row(title, text)
    return table


def _lines(report: Report) -> Iterator[tuple[str, str]]:
    yield "accepted", f"{report.accepted} orders, {report.accepted_per_second:.1f}/s"
    yield "completed", f"{report.completed} orders, {report.completed_per_second:.1f}/s on arrival"
    yield (
        "not completed",
        (
            f"{report.waiting_for_customers} wait for their customer, "
            f"{report.unfinished} are under way, {len(report.lost)} are lost"
        ),
    )
    if times := report.time_to_tracking:
        yield "from accepted to tracked", f"{_percentiles(times, 1)} s"
    yield (
        "arrivals",
        (
            f"{report.not_sent} not sent, {report.abandoned} abandoned; "
            f"{report.given_up} requests given up"
        ),
    )
    if late := report.lateness:
        yield "sent late by", f"{_percentiles(late, _MILLISECONDS)} ms"


def _percentiles(found: Percentiles, factor: float) -> str:
    values = zip(("p50", "p95", "p99", "max"), _values(found, factor), strict=True)
    return ", ".join(f"{name} {value}" for name, value in values)


def _values(found: Percentiles, factor: float) -> Iterator[str]:
    for value in (found.p50, found.p95, found.p99, found.max):
        yield f"{value * factor:.{2 if factor == 1 else 0}f}"


def _requests(report: Report) -> Table:
    table = _table("request, ms", "answered", "p50", "p95", "p99", "max", "errors")
    for kind in sorted({*report.latencies, *report.errors}):
        found = report.latencies.get(kind)
        figures = (
            (str(found.count), *_values(found, _MILLISECONDS)) if found else ("0",) + ("",) * 4
        )
        table.add_row(kind, *figures, _errors(report.errors.get(kind, {})))
    return table


def _errors(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} of {error}" for error, count in counts.items()) or "-"


def _cpu(report: Report) -> Table:
    cost, per_order = report.cost, report.cpu_per_order
    table = _table("CPU per order, ms", "process", "sidecar", "both")
    services = [name for name in per_order if f"{name}{_SIDECAR}" in per_order]
    for name in services:
        _add(table, name, per_order[name], per_order[f"{name}{_SIDECAR}"])
    _add(
        table,
        "the services",
        sum(per_order[name] for name in services),
        sum(per_order[f"{name}{_SIDECAR}"] for name in services),
    )
    others = [n for n in per_order if n not in services and not n.endswith(_SIDECAR)]
    for name in sorted(others, key=lambda name: -per_order[name]):
        if name != DRIVER:
            table.add_row(name, "", "", f"{per_order[name]:.2f}")
    table.add_row("the platform", "", "", f"{sum(per_order.values()) - per_order[DRIVER]:.2f}")
    table.add_row(DRIVER, "", "", f"{per_order[DRIVER]:.2f}")
    cores = (cost.platform, cost.driver, cost.strangers)
    table.caption = (
        "cores busy: platform {:.2f}, driver {:.2f}, all else on this machine {:.2f}".format(
            *(seconds / cost.seconds for seconds in cores)
        )
    )
    return table


def _add(table: Table, name: str, process: float, sidecar: float) -> None:
    table.add_row(name, f"{process:.2f}", f"{sidecar:.2f}", f"{process + sidecar:.2f}")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, caption_justify="left")
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table

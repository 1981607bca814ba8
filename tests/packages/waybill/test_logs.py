from pathlib import Path

from waybill import logs
from waybill.project import Project


def test_what_we_append_is_safe_from_the_writer_of_a_linked_log(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "orders_app_1.log", tmp_path / "orders.log"
    with theirs.open("w") as writer:
        writer.write("first life\n")
        writer.flush()
        logs.show(theirs, ours)
        logs.take_over(ours)
        with ours.open("a") as log:
            log.write("second life\n")
        writer.write("exit status 1\n")

    assert ours.read_text() == "first life\nsecond life\n"


def test_the_logs_of_the_last_run_are_kept_and_those_before_are_not(checkout: Project) -> None:
    checkout.dapr_logs.mkdir(parents=True)
    for life in ("first", "second"):
        written = checkout.dapr_logs / f"orders_app_{life}.log"
        written.parent.mkdir(exist_ok=True)
        written.write_text(life)
        logs.show(written, checkout.log("orders"))
        checkout.log("postgres").write_text(life)
        logs.rotate(checkout)

    previous = checkout.logs / "previous"
    assert (previous / "orders.log").read_text() == "second"
    assert (previous / "postgres.log").read_text() == "second"
    assert list(checkout.logs.glob("*.log")) == []


def test_logs_in_a_folder_of_their_own_are_put_aside_too(checkout: Project) -> None:
    for life in ("first", "second"):
        (checkout.logs / "pods" / life).mkdir(parents=True)
        logs.rotate(checkout)

    assert list(checkout.logs.iterdir()) == [checkout.logs / "previous"]
    assert (checkout.logs / "previous" / "pods" / "second").exists()
    assert not (checkout.logs / "previous" / "pods" / "first").exists()


def test_only_the_end_of_a_long_log_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("\n".join(f"line {number}" for number in range(100_000)))

    assert logs.last_lines(log, 2) == "  line 99998\n  line 99999"

import os
import socket

from waybill import ports
from waybill.project import Project


def test_a_conflict_names_the_process_that_holds_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]

        [conflict] = ports.conflicts({port: "orders"})

    assert conflict.pid == os.getpid()
    assert f"Port {port} (orders) is taken by" in str(conflict)
    assert str(os.getpid()) in conflict.fix


def test_a_port_that_we_hold_ourselves_is_no_conflict() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ports.conflicts({server.getsockname()[1]: "orders"}, ours=[os.getpid()]) == []


def test_every_port_of_every_app_is_needed_and_none_is_needed_twice(checkout: Project) -> None:
    needed = ports.needed(checkout)

    assert needed[28001] == "orders"
    assert needed[23501] == "orders sidecar"
    assert len(needed) == len(ports.needed(Project(checkout.root), broker=False)) + 4


def test_no_port_lies_where_the_system_takes_those_of_outgoing_connections(
    checkout: Project,
) -> None:
    assert max(ports.needed(checkout)) < 32768

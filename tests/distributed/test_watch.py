"""A process that falls silent ends the job; one that sends heartbeats does not."""

import socket
import threading
import time

import pytest

from joint_st.distributed import watch
from joint_st.distributed.links import Link
from joint_st.distributed.peers import Peers
from joint_st.distributed.watch import EXIT_LOST, Watch

HOSTS = ("host-a", "host-b")


@pytest.fixture
def ends(monkeypatch):
    """How a process would have ended: status and line; beats come often, and silence is short."""
    found: list[tuple[int, str]] = []
    ended = threading.Event()

    def leave(status, line):
        found.append((status, line))
        ended.set()

    monkeypatch.setattr(watch, "_exit", leave)
    monkeypatch.setattr(watch, "_delay_aborts", lambda: None)
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(watch, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.1)
    found_or_none = lambda seconds: ended.wait(seconds) and found[0]  # noqa: E731
    yield found_or_none


def links():
    """The two ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return Link(one), Link(server.accept()[0])


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_falls_silent_is_named(ends, index):
    here, there = links()
    Watch(Peers(index, HOSTS), {1 - index: here})
    for _ in range(15):  # longer than silence may last
        there.send({"beat": True})
        time.sleep(0.05)
    assert not ends(0)
    status, line = ends(5)
    assert status == EXIT_LOST
    assert line.startswith(
        f"process {1 - index} on {HOSTS[1 - index]} was silent for 0.5 s: stopped, or its host hangs"
    )
    # Its own beats went out meanwhile.
    assert there.receive(time.monotonic() + 5) == {"beat": True}


def test_two_that_say_that_they_are_there_go_on_and_leave(ends):
    both = [Watch(Peers(index, HOSTS), {1 - index: link}) for index, link in enumerate(links())]
    assert not ends(1.2)
    for one in both:
        one.close()
    assert not ends(0.7)

"""When one process gets SIGTERM, all stop after the same step."""

import random
import signal
import threading
import time

import pytest
from jax.errors import JaxRuntimeError

from joint_st.distributed.peers import Peers
from joint_st.training.interruption import Interruption
from tests.distributed.fake_store import on_all

STEPS = 40


@pytest.fixture(autouse=True)
def own_handler(monkeypatch):
    """Threads may not install handlers: they ask their Interruption themselves."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)


class Lockstep:
    """Steps as devices take them: none ends before all have begun it, and hosts are two ahead at most."""

    def __init__(self, count: int):
        self._changed = threading.Condition()
        self._begun = [0] * count

    def begin(self, index: int, step: int) -> None:
        with self._changed:
            self._begun[index] = step
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: min(self._begun) >= step - 1, 20), f"{index} is stuck in {step}"


def stops(asked: dict[int, int], start: int = 0, count: int = 3) -> list[int]:
    """Return the step after which each process stops, if processes `asked` are, each after a step of its own."""
    lockstep = Lockstep(count)
    for index in range(count):
        lockstep._begun[index] = start

    def train(peers):
        chance = random.Random(peers.index)
        with Interruption(peers) as interruption:
            for done in range(start + 1, STEPS + 1):
                lockstep.begin(peers.index, done)
                time.sleep(chance.uniform(0, 0.004))
                if asked.get(peers.index) == done:
                    interruption._requested.set()
                if interruption.stops_after(done):
                    assert interruption.stopped
                    return done
            assert not interruption.stopped
            return STEPS

    return on_all(train, count)


def test_nobody_is_asked():
    assert stops({}) == [STEPS] * 3


@pytest.mark.parametrize("asked", [{1: 7}, {0: 7}, {0: 7, 1: 7, 2: 7}, {0: 9, 2: 7}])
def test_all_stop_after_the_same_step_and_soon(asked):
    first, *others = stops(asked)
    assert others == [first] * 2
    assert min(asked.values()) <= first < min(asked.values()) + 20


def test_a_run_that_goes_on_stops_too():
    first, *others = stops({1: 21}, start=20)
    assert others == [first] * 2 and 21 <= first < STEPS


def test_a_run_that_takes_longer_than_one_wait_stops_too(monkeypatch):
    monkeypatch.setattr("joint_st.training.interruption.FOREVER_SECONDS", 0.02)
    first, *others = stops({1: 20})
    assert others == [first] * 2 and 20 <= first < STEPS


def test_who_is_asked_at_the_end_finishes_with_the_others():
    first, *others = stops({2: STEPS})
    assert others == [first] * 2 and first == STEPS


@pytest.mark.parametrize(("asked", "late"), [(None, False), (2, True)])
def test_a_signal_after_the_last_step_is_obeyed_by_all(asked, late):
    def train(peers):
        with Interruption(peers) as interruption:
            assert not interruption.stops_after(1)
            if peers.index == asked:
                interruption._requested.set()
        return interruption.came_late()

    assert on_all(train) == [late] * 3


def test_a_signal_that_a_step_has_obeyed_is_not_late():
    def train(peers):
        with Interruption(peers) as interruption:
            interruption._requested.set()
            for done in range(1, STEPS):
                if interruption.stops_after(done):
                    break
        return interruption.stopped, interruption.came_late()

    assert on_all(train, 1) == [(True, False)]


def test_alone():
    with Interruption(Peers()) as interruption:
        assert not interruption.stops_after(1)
        interruption._requested.set()
        assert interruption.stops_after(2) and interruption.stopped
    assert not interruption.came_late()
    with Interruption(Peers()) as interruption:
        assert not interruption.stops_after(1)
        interruption._requested.set()
    assert interruption.came_late()


def test_a_store_that_is_gone_with_process_0_is_no_error_of_a_thread(monkeypatch):
    """The watch says why, in one line; a thread's traceback beside it would not help."""
    raised, done = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.append(arguments.exc_value))

    class Gone:
        def set(self, key, value):
            pass

        def get(self, key, seconds):
            threading.Timer(0.05, done.set).start()
            raise JaxRuntimeError("UNKNOWN: Socket closed")

    with Interruption(Peers(1, ("a", "b"), Gone())):
        assert done.wait(10)
    assert raised == []

"""How the time of decoding is counted, without compilation."""

from __future__ import annotations

import time

import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.decoding import forward as module
from joint_st.decoding.forward import Clock, Program


@pytest.fixture
def seconds(monkeypatch):
    """A clock on the wall, to be moved by hand."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_factors_by_hand(seconds):
    clock = Clock()
    assert clock.factor("greedy", "streaming") is None
    for spent, of in (
        (4.0, {}),
        (1.0, {"head": "streaming"}),
        (2.0, {"head": "full_context"}),
        (8.0, {"decoder": "beam 4"}),
        (0.5, {"decoder": "greedy", "head": "streaming"}),
        (0.5, {"decoder": "greedy", "head": "streaming"}),
    ):
        with clock.running(**of):
            seconds[0] += spent
        seconds[0] += 100
    clock.audio = 20.0
    assert clock.factor("greedy", "streaming") == (4 + 1 + 1) / 20
    assert clock.factor("greedy", "full_context") == (4 + 2) / 20
    assert clock.factor("beam 4", "streaming") == (4 + 1 + 8) / 20
    assert clock.factor("beam 4", "full_context") == (4 + 2 + 8) / 20


def test_a_program_is_compiled_before_it_is_timed():
    def slow_to_compile(x):
        time.sleep(0.5)
        return {"twice": 2 * x}

    program, clock = Program(slow_to_compile), Clock()
    for size in (3, 3, 5):
        x = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(program(jnp.asarray(x), clock=clock, decoder="a")["twice"], 2 * x)
    np.testing.assert_array_equal(program(jnp.arange(2.0))["twice"], [0, 2])
    clock.audio = 1.0
    assert 0 < clock.factor("a", "streaming") < 0.4
    assert clock.factor("b", "streaming") == 0

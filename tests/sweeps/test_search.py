"""Grids, random search, and the names of their arms."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest

from joint_st.sweeps import arm_name, choice, grid, integers, load_sweep, log_uniform, sample, search, uniform
from tests.sweeps.conftest import write_sweep

DRAWS = {"optimizer.peak_learning_rate": log_uniform(1e-4, 1e-2), "model.width": choice(64, 96)}


def test_a_grid_has_every_combination_once():
    assert grid({"a": (1, 2), "b.c": "xy"}) == [
        {"a": 1, "b.c": "x"},
        {"a": 1, "b.c": "y"},
        {"a": 2, "b.c": "x"},
        {"a": 2, "b.c": "y"},
    ]
    assert grid({}) == [{}]


def test_a_larger_sample_and_one_more_path_keep_what_was_drawn():
    few = sample(3, 5, DRAWS)
    assert sample(3, 9, DRAWS)[:5] == few != sample(4, 5, DRAWS)
    more = sample(3, 5, {"text.repeat_most": integers(2, 9), **DRAWS})
    assert [{path: one[path] for path in DRAWS} for one in more] == few
    # Stored: runs that are finished are found again by the same sweep file, on every machine and Python.
    assert few[0] == {"optimizer.peak_learning_rate": 0.000986, "model.width": 96}


def test_draws_have_their_distributions():
    draws = {"log": log_uniform(1e-4, 1e-2), "even": uniform(-1, 3), "whole": integers(2, 4), "one": choice("a", "b")}
    drawn = sample(0, 4000, draws)

    def quantiles(name, of=float):
        return np.quantile([of(one[name]) for one in drawn], [0, 0.25, 0.5, 0.75, 1])

    np.testing.assert_allclose(quantiles("log", math.log10), [-4, -3.5, -3, -2.5, -2], atol=0.06)
    np.testing.assert_allclose(quantiles("even"), [-1, 0, 1, 2, 3], atol=0.12)
    for name, values in (("whole", (2, 3, 4)), ("one", ("a", "b"))):
        counts = [sum(one[name] == value for one in drawn) for value in values]
        assert sum(counts) == 4000
        np.testing.assert_allclose(counts, 4000 / len(values), rtol=0.06)
    assert all(one["log"] == float(f"{one['log']:.2e}") for one in drawn)


def test_rounding_does_not_leave_the_range():
    draws = {"even": uniform(0.9, 0.9999), "log": log_uniform(0.1234, 0.12345)}
    drawn = sample(0, 4000, draws)
    assert max(one["even"] for one in drawn) == 0.9999
    logs = {one["log"] for one in drawn}
    assert logs == {round(0.1234 + n * 1e-6, 6) for n in range(51)}


@pytest.mark.parametrize(
    "low, high, step",
    [(0.999, 0.9999, 1e-5), (1000, 1005, 0.1), (-1005, -1000, 0.1), (-0.0005, 0.0005, 1e-6), (0.9, 1.0, 1e-3)],
)
def test_narrow_ranges_have_values_enough(low, high, step):
    drawn = [one["x"] for one in sample(0, 3000, {"x": uniform(low, high)})]
    assert low <= min(drawn) and max(drawn) <= high
    near = [value for value in drawn if abs(value) > max(abs(low), abs(high)) / 2]
    assert all(abs(value / step - round(value / step)) < 1e-6 for value in near), "no more digits than it takes"
    assert len(set(near)) > 40
    np.testing.assert_allclose(np.quantile(drawn, [0, 0.5, 1]), [low, (low + high) / 2, high], atol=0.05 * (high - low))


@pytest.mark.parametrize("draw", [uniform, log_uniform])
@pytest.mark.parametrize("bounds", [(1e-4, 1e-2), (-1, 3), (0.9, 0.99), (0.9, 0.9999), (0.9, 1.0), (90, 100), (0, 1)])
def test_draws_of_wide_ranges_stay_what_they_were(draw, bounds):
    """Finished runs are found again by their values."""
    if draw is log_uniform and bounds[0] <= 0:
        return
    for seed in range(300):
        given = Random(seed)
        if draw is uniform:
            value = given.uniform(*bounds)
        else:
            value = math.exp(given.uniform(*map(math.log, bounds)))
        assert draw(*bounds)(Random(seed)) == min(max(float(f"{value:.3g}"), bounds[0]), bounds[1])


def test_a_range_of_one_number_gives_it():
    assert {uniform(0, 0)(Random(n)) for n in range(9)} == {0.0}
    assert {uniform(0.12345, 0.12345)(Random(n)) for n in range(9)} == {0.12345}
    assert {log_uniform(2, 2)(Random(n)) for n in range(9)} == {2.0}


def test_the_examples_of_the_module_have_runs_of_different_names(tmp_path):
    _, *examples = [part for part in search.__doc__.split("\n\n") if not part.startswith("Draws are")]
    assert len(examples) == 2
    more = "from joint_st.sweeps import arm_name, grid, log_uniform, sample"
    for seed in range(5):
        body = "\n".join(examples).replace("sample(0, 20", f"sample({seed}, 50").replace("(64, 96)", "(16, 32)")
        sweep = load_sweep(write_sweep(tmp_path, body, more), tmp_path)
        assert len(sweep.jobs) == 12 + 50 and len({job.name for job in sweep.jobs}) == 62


def test_an_arm_is_named_by_what_it_overrides(tmp_path):
    assert arm_name({}) == "base"
    assert arm_name({"optimizer.peak_learning_rate": 1e-05, "model.width": 64}) == "peak_learning_rate=1e-05+width=64"
    assert arm_name({"data.train.0.name": "a/b", "data.dev.0.name": "c d"}) == "train.0.name=a_b+dev.0.name=c_d"
    assert arm_name({"training.loggers": ("wandb", "x"), "text": None, "data.text": []}) == (
        "loggers=_wandb_x+text=null+data.text="
    )
    values = "{'model.width': (16, 32), 'data.strict': (True, False)}"
    body = f"for values in grid({values}):\n    yield Run(arm_name(values), values)"
    sweep = load_sweep(write_sweep(tmp_path, body, "from joint_st.sweeps import arm_name, grid"), tmp_path)
    assert sweep.arms == tuple(f"width={width}+strict={strict}" for width in (16, 32) for strict in ("true", "false"))

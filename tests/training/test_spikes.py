"""Steps whose gradient spikes are skipped: which ones, what stays unchanged, and how such a run ends."""

from __future__ import annotations

import csv
import math
import shutil

import jax
import numpy as np
import optax
import pytest

from joint_st.config import LmConfig, LmDataConfig, LmModelConfig, LoopConfig, OptimizerConfig, TextSource, override
from joint_st.errors import UserError
from joint_st.training.lm import train_lm
from joint_st.training.optimizer import SpikeState, make_optimizer, schedule

ABOVE, WINDOW, STEPS = 3.0, 8, 60


def gradients():
    """Gradients of a vector whose norms scatter around 1, with spikes of 2 to 50."""
    random = np.random.default_rng(0)
    for n in range(STEPS):
        direction = random.normal(size=4)
        norm = random.uniform(0.5, 1.5) * (random.choice([2.0, 4.0, 50.0]) if n % 7 == 3 else 1)
        yield (norm * direction / np.linalg.norm(direction)).astype(np.float32)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_step_beyond_the_median_moves_nothing(kind):
    config = OptimizerConfig(kind=kind, warmup_steps=2, weight_decay=0.1, skip_above=ABOVE, skip_window=WINDOW)
    plain = override_section(config, skip_above=0.0)
    spiking, reference = (make_optimizer(one, STEPS) for one in (config, plain))
    weights = expected = {"linear": {"kernel": np.ones((2, 2), np.float32)}}
    state, by_hand = spiking.init(weights), reference.init(weights)
    assert isinstance(state, SpikeState) and not isinstance(by_hand, SpikeState)
    update, update_by_hand = jax.jit(spiking.update), jax.jit(reference.update)
    taken, skipped = [], 0
    for n, gradient in enumerate(gradients()):
        norm = float(np.linalg.norm(gradient))
        gradient = {"linear": {"kernel": gradient.reshape(2, 2)}}
        spike = len(taken) >= WINDOW // 4 and norm > ABOVE * np.median(taken[-WINDOW:])
        changes, state = update(gradient, state, weights)
        weights = optax.apply_updates(weights, changes)
        if spike:
            skipped += 1
            # The learning rate alone goes on: it follows the steps of the run.
            by_hand = jax.tree.map(
                lambda old: old._replace(count=old.count + 1) if is_schedule(old) else old, by_hand, is_leaf=is_schedule
            )
        else:
            taken.append(norm)
            changes, by_hand = update_by_hand(gradient, by_hand, expected)
            expected = optax.apply_updates(expected, changes)
        assert (int(state.skipped_in_row) > 0) == spike, n
        np.testing.assert_array_equal(weights["linear"]["kernel"], expected["linear"]["kernel"], err_msg=str(n))
    jax.tree.map(np.testing.assert_array_equal, state.optimizer, by_hand)
    assert 3 < skipped < 10


def test_a_larger_gradient_of_other_losses_is_no_spike():
    config = OptimizerConfig(warmup_steps=2, skip_above=ABOVE, skip_window=WINDOW)
    joins, weights = 2 * WINDOW, {"kernel": np.ones((2, 2), np.float32)}
    for changes in ((), (joins,)):
        optimizer = make_optimizer(config, STEPS, changes=changes)
        state, update, skipped = optimizer.init(weights), jax.jit(optimizer.update), []
        for step in range(4 * WINDOW):
            # From `joins` on ten times as large, and a single spike well after it.
            size = 1.0 if step < joins else 10 * ABOVE if step != 3 * WINDOW else 100 * ABOVE**2
            _, state = update({"kernel": np.full((2, 2), size, np.float32)}, state, weights)
            skipped += [step] * (int(state.skipped_in_row) > 0)
        assert skipped == ([3 * WINDOW] if changes else list(range(joins, 4 * WINDOW)))


def test_a_norm_that_is_not_finite_is_no_spike():
    optimizer = make_optimizer(OptimizerConfig(skip_above=ABOVE, skip_window=WINDOW), STEPS)
    weights = {"kernel": np.ones((2, 2), np.float32)}
    state = optimizer.init(weights)
    for _ in range(WINDOW):
        _, state = optimizer.update(weights, state, weights)
    changes, after = optimizer.update({"kernel": np.full((2, 2), np.nan, np.float32)}, state, weights)
    assert np.isnan(changes["kernel"]).all() and int(after.skipped_in_row) == 0


def is_schedule(leaf) -> bool:
    return isinstance(leaf, optax.ScaleByScheduleState)


def override_section(section, **changes):
    return type(section).model_validate(section.model_dump() | changes)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> LmConfig:
    """A language model whose norms all lie beyond 0.9 of their median now and then, and never beyond 1,000 of it."""
    place = tmp_path_factory.mktemp("texts")
    colours, things = ("red", "green", "blue", "grey"), ("house", "tree", "boat")
    (place / "train.txt").write_text(
        "".join(f"The {a} {b} is {c}.\n" for a in colours for b in things for c in colours)
    )
    return LmConfig(
        name="spikes",
        data=LmDataConfig(train=(TextSource(path=str(place / "train.txt")),), batch_size=8, buckets=1),
        model=LmModelConfig(width=8, layers=1),
        optimizer=OptimizerConfig(warmup_steps=2, skip_above=1.01, skip_window=8),
        training=LoopConfig(steps=16, log_every=1, checkpoint_every=8, keep_latest=3, compilation_cache=""),
    )


def rows(run):
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "labels_per_second"} for row in csv.DictReader(file)]


def test_skipped_steps_are_counted_and_a_resumed_run_skips_the_same(config, tmp_path, capsys):
    train_lm(config, tmp_path / "run")
    said = capsys.readouterr().err
    whole = rows(tmp_path / "run")
    skipped = [row["step"] for row in whole if float(row["skipped_steps"])]
    assert 0 < len(skipped) < len(whole)
    assert all(f"step {step}: skipped, its gradient's norm is" in said for step in skipped)
    # The learning rate that is logged is the one that the optimizer takes.
    rate = schedule(config.optimizer, 16)
    assert all(math.isclose(float(row["learning_rate"]), float(rate(n)), rel_tol=1e-6) for n, row in enumerate(whole))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "16")
    train_lm(config, tmp_path / "run")
    assert rows(tmp_path / "run") == whole


def test_ten_skipped_steps_in_a_row_end_the_run(config, tmp_path):
    with pytest.raises(UserError, match=r"^step 12: skipped, .* the 10th in a row; the checkpoint of step 8 is good; "):
        train_lm(override(config, {"optimizer.skip_above": 1e-6}), tmp_path / "run")
    assert [float(row["skipped_steps"]) for row in rows(tmp_path / "run")] == [0, 0] + [1] * 9

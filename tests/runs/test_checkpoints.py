"""Checkpoints: what is in one, which are kept, and the error when the disk is full."""

from __future__ import annotations

import collections
import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from joint_st.errors import UserError
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import best_steps
from tests.tiny import environment

State = collections.namedtuple("State", "step weights average")


def state_of(step: int, size: int = 8) -> State:
    values = jnp.asarray(np.random.default_rng(step).normal(size=size), jnp.float32)
    return State(jnp.int32(step), {"a": values, "b": {"c": 2 * values}}, {"a": -values, "b": {"c": jnp.ones(())}})


def shapes(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def saved(tmp_path):
    """Checkpoints after 1 to 6 steps; some have a WER."""
    wers = {1: 0.5, 2: None, 3: 0.2, 4: 0.3, 5: None, 6: 0.4}
    with Checkpoints(tmp_path, keep_latest=2, keep_best=1) as checkpoints:
        for step, wer in wers.items():
            checkpoints.save(step, state_of(step), {"step": step, "wer": wer}, wer)
    return tmp_path


def test_the_latest_and_the_best_are_kept(saved):
    assert sorted(int(entry.name) for entry in saved.iterdir()) == [3, 5, 6]
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert (checkpoints.latest(), checkpoints.best()) == (6, 3)
        assert [checkpoints.choose(which) for which in ("best", "latest", "5")] == [3, 6, 5]
        for which in ("4", "7", "first"):
            with pytest.raises(UserError, match=f"no checkpoint '{which}'; there are best, latest, 3, 5, 6"):
                checkpoints.choose(which)
        assert checkpoints.facts(3) == {"step": 3, "wer": 0.2}


def test_a_checkpoint_opened_again_still_counts_as_the_best(saved):
    with Checkpoints(saved, keep_latest=1, keep_best=1) as checkpoints:
        checkpoints.save(7, state_of(7), {}, 0.25)
        checkpoints.wait()
        assert (checkpoints.latest(), checkpoints.best()) == (7, 3)
    assert sorted(int(entry.name) for entry in saved.iterdir()) == [3, 7]


def test_a_kill_while_an_older_one_is_removed_leaves_no_part_of_it_among_them(saved, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr("joint_st.runs.checkpoints.remove_moved", lambda checkpoints: None)
        with Checkpoints(saved) as checkpoints:
            checkpoints.save(7, state_of(7), {"step": 7, "wer": 0.1}, 0.1)
    gone = saved / "removed"
    assert {entry.name for entry in gone.iterdir()} <= {"3", "5", "6"} and (gone / "3").is_dir()
    for file in [file for file in gone.rglob("*") if file.is_file()][::2]:  # a kill in the middle
        file.unlink()
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert checkpoints.choose("best") == checkpoints.choose("latest") == 7
    assert best_steps(saved, [3, 7]) == [7]  # listed before it was removed
    (saved / "4.orbax-checkpoint-tmp" / "state").mkdir(parents=True)  # a save that was killed
    with Checkpoints(saved) as checkpoints:
        assert [entry.name for entry in saved.iterdir()] == ["7"]
        checkpoints.save(8, state_of(8), {"step": 8, "wer": 0.05}, 0.05)
        checkpoints.save(9, state_of(9), {"step": 9, "wer": 0.01}, 0.01)
        checkpoints.wait()
        assert {entry.name for entry in (saved / "removed").iterdir()} == {"8"}  # 7 is gone before 9 needs its room
    assert [entry.name for entry in saved.iterdir()] == ["9"]


def test_without_a_wer_the_latest_is_the_best(tmp_path):
    with Checkpoints(tmp_path, keep_latest=2) as checkpoints:
        assert checkpoints.latest() is None
        with pytest.raises(UserError, match="no complete checkpoint; train the run first"):
            checkpoints.choose("best")
        for step in (1, 2):
            checkpoints.save(step, state_of(step), {}, None)
        checkpoints.wait()
        assert checkpoints.choose("best") == 2


def test_the_whole_state_or_a_part_of_it_comes_back(saved):
    with Checkpoints(saved, read_only=True) as checkpoints:
        whole = checkpoints.restore(5, shapes(state_of(0)))
        assert_equal(whole, state_of(5))
        part = checkpoints.restore_part(5, {"average": shapes(state_of(0).average)})
        assert_equal(part, {"average": state_of(5).average})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": {"c": jnp.ones(()), "d": jnp.ones(2)}}, r"average.b.d is absent there and \(2,\) in this version"),
        ({"b": {}}, r"average.b.c is \(\) there and absent in this version"),
        ({"a": jnp.ones(9)}, r"average.a is \(8,\) there and \(9,\) in this version"),
    ],
)
def test_a_part_of_other_arrays_is_refused(saved, change, message):
    other = shapes({**state_of(0).average, **change})
    with Checkpoints(saved, read_only=True) as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore_part(5, {"average": other})
    with Checkpoints(saved) as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore(5, shapes(state_of(0))._replace(average=other))


def test_what_is_saved_is_the_state_of_its_step(tmp_path):
    """This holds although the arrays are donated to the next step while they are written."""
    size, count = 2**19, 8

    @jax.jit
    def expected(step):
        return {name: jnp.full((size,), step, jnp.float32) * k for k, name in enumerate("abc")}

    advance = jax.jit(lambda state: {n: x + k for k, (n, x) in enumerate(state.items())}, donate_argnums=0)
    with Checkpoints(tmp_path, keep_latest=count) as checkpoints:
        state = expected(0)
        for step in range(1, count + 1):
            state = advance(state)
            checkpoints.save(step, state, {}, None)
            # The buffers of the state just saved are used again at once.
            state = advance(state)
            for _ in range(5):
                state = advance(state)
            state = {name: x - 6 * k for k, (name, x) in enumerate(state.items())}
        checkpoints.wait()
        for step in range(1, count + 1):
            assert_equal(checkpoints.restore(step, shapes(state)), expected(step))


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(saved, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30 - 100, 100))
    with Checkpoints(saved, keep_latest=2) as checkpoints:
        with pytest.raises(UserError, match=r"a checkpoint takes 0.0 MiB, and 0.0 MiB are free; make room"):
            checkpoints.save(7, state_of(7), {}, None)
        assert checkpoints.latest() == 6


# TensorStore tells of the failed write to an event loop that Orbax has closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_fails_in_the_background_is_told_by_the_next_call(tmp_path):
    with Checkpoints(tmp_path, keep_latest=3) as checkpoints:
        checkpoints.save(1, state_of(1), {}, None)
        checkpoints.wait()
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        # No file may grow beyond 100 kB, as if the disk were full; Python ignores the signal for it.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
        try:
            checkpoints.save(2, state_of(2, size=2**18), {}, None)
            with pytest.raises(UserError, match="a checkpoint could not be saved: File too large"):
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.choose("latest") == 1
        assert_equal(checkpoints.restore(1, shapes(state_of(0))), state_of(1))


def on_eight_devices(folder):
    """Return what one device saved is restored onto eight, whole on each or cut over them; and is saved there."""
    mesh = jax.make_mesh((8,), ("data",))
    with Checkpoints(folder, keep_latest=9) as checkpoints:
        for spec in (PartitionSpec(), PartitionSpec("data")):

            def place(x):
                return NamedSharding(mesh, spec if x.ndim else PartitionSpec())

            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x)), state_of(0))
            found = checkpoints.restore(5, like)
            assert_equal(found, state_of(5))
            assert found.weights["a"].sharding.is_equivalent_to(place(found.weights["a"]), 1)
            part = checkpoints.restore_part(5, {"average": like.average})["average"]
            assert_equal(part, state_of(5).average)
            assert part["a"].sharding.is_equivalent_to(place(part["a"]), 1)
        cut = jax.tree.map(lambda x: jax.device_put(x, place(x)), state_of(8))
        checkpoints.save(8, cut, {}, None)


def test_one_device_saves_for_eight_and_eight_for_one(saved):
    program = f"from tests.runs.test_checkpoints import on_eight_devices as f; f({str(saved)!r})"
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(XLA_FLAGS=flags), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert_equal(checkpoints.restore(8, shapes(state_of(0))), state_of(8))

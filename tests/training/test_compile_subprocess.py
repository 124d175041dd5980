import contextlib
import logging
from concurrent.futures import CancelledError

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from joint_st.config import LossConfig, override, register
from joint_st.config.registry import unregister
from joint_st.data.batch import Shape
from joint_st.data.buckets import Buckets
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.host_memory import TUNABLES, VARIABLE
from joint_st.distributed.mesh import keep_compiled, make_mesh
from joint_st.training import compile_subprocess
from joint_st.training.compilation import batch_shapes, shapes_of_batches
from joint_st.training.compile_subprocess import CompileSubprocess, Steps, compile_in_subprocess
from joint_st.training.step import make_train_step, state_shapes
from tests.tiny import tiny_config

SPEECH = Buckets(bounds=(7_680,), label_bounds=(8,), batch_sizes=(2,), unit_bounds=(8,))
TEXT = Buckets(bounds=(8, 16), label_bounds=(8, 16), batch_sizes=(2, 2), unit_bounds=(8, 16))


SIZES = SymbolSizes(labels=8, units=8)


@pytest.fixture
def steps(tmp_path):
    changes = {"data.text_batch_size": 2, "data.units.kind": "phonemes", "training.compilation_cache": str(tmp_path)}
    buckets = {"paired": SPEECH, "text": TEXT}
    return Steps(tiny_config(tmp_path, changes), SIZES, buckets, {"text": TEXT}, tuple(shapes_of_batches(buckets)))


@pytest.fixture
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    keep_compiled(str(tmp_path))
    # JAX decides only once in a process whether there is a cache.
    compilation_cache.reset_cache()
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)
    compilation_cache.reset_cache()


def test_programs_are_in_the_order_of_their_use(steps):
    assert list(steps.each()) == [(False, (None, 0)), (False, (None, 1)), (True, (0, 0)), (True, (0, 1))]
    assert [shape for _, shape in steps._replace(text_buckets=None).each()] == [(0, 0), (0, 1)]
    speech_first = steps._replace(text_buckets=None, speech_buckets={"paired": SPEECH})
    fewer = steps._replace(shapes=(Shape(0, 1),))
    assert list(fewer.each()) == [(False, (None, 0)), (False, (None, 1)), (True, (0, 1))]
    assert list(speech_first.each()) == [(True, (0, None)), (True, (0, 0)), (True, (0, 1))]


def test_the_digest_is_of_what_programs_depend_on(steps):
    def changed(field, value):
        return steps._replace(config=override(steps.config, {field: value})).digest

    assert changed("seed", 5) == changed("name", "other") == steps.digest
    assert len({steps.digest, changed("model.width", 32), steps._replace(sizes=SymbolSizes(8, 9)).digest}) == 3


def test_it_is_for_a_process_that_keeps_its_memory_and_has_a_cache_without_them(steps, cache, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert isinstance(compile_in_subprocess(steps), contextlib.nullcontext)
    monkeypatch.setenv(VARIABLE, TUNABLES)
    assert isinstance(compile_in_subprocess(None), contextlib.nullcontext)
    monkeypatch.setattr(compile_subprocess.sys, "executable", "false")
    with compile_in_subprocess(steps) as process:
        assert isinstance(process, CompileSubprocess)
    (cache / f"steps-{steps.digest}").touch()
    assert isinstance(compile_in_subprocess(steps), contextlib.nullcontext)


def test_a_config_with_a_section_of_its_own_file_is_compiled_here(steps, cache, monkeypatch):
    monkeypatch.setenv(VARIABLE, TUNABLES)

    @register("losses.local")
    class LocalConfig(LossConfig):
        """A section that no module has, as those that a config file defines."""

        weight: float = 0.0

    try:
        own = steps._replace(config=override(steps.config, {"losses.local.weight": 0.5}))
        assert isinstance(compile_in_subprocess(own), contextlib.nullcontext)
    finally:
        unregister("losses.local")


def test_nobody_waits_for_a_process_that_fails(steps, monkeypatch):
    monkeypatch.setattr(compile_subprocess.sys, "executable", "false")
    with CompileSubprocess(steps) as process:
        for _, shape in steps.each():
            process.wait(shape)


def test_leaving_ends_the_process_and_the_wait(steps):
    with CompileSubprocess(steps) as process:
        pass
    with pytest.raises(CancelledError):
        process.wait((0, 0))


@pytest.mark.slow
def test_what_was_compiled_in_a_subprocess_is_found(steps, cache, caplog):
    shape = Shape(0, None)
    steps = steps._replace(buckets={"paired": SPEECH}, text_buckets=None, shapes=(shape,))
    mesh = make_mesh(steps.config.parallel)
    with CompileSubprocess(steps) as process, jax.set_mesh(mesh):
        step = make_train_step(steps.config, steps.sizes, mesh)
        like = state_shapes(steps.config, steps.sizes, mesh)
        lowered = step.lower(like, batch_shapes(steps.buckets, shape, mesh))
        process.wait(shape)
        stored = sorted(path.name for path in cache.glob("jit_train_step*-cache"))
        with caplog.at_level(logging.DEBUG, "jax._src.compiler"):
            lowered.compile()
    assert len(stored) == 1 and stored == sorted(path.name for path in cache.glob("jit_train_step*-cache"))
    assert any("cache hit" in record.getMessage() and "train_step" in record.getMessage() for record in caplog.records)

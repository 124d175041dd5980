import threading

import jax
import jax.numpy as jnp
import pytest

from joint_st.config import ParallelConfig
from joint_st.data.buckets import Buckets
from joint_st.distributed.mesh import make_mesh
from joint_st.training.compilation import Programs

AUDIO = Buckets(bounds=(16, 32), label_bounds=(8, 8), batch_sizes=(4, 2))
TEXT = Buckets(bounds=(8,), label_bounds=(16,), batch_sizes=(6,), unit_bounds=(8,))


def samples(state, batch):
    return state + batch["audio"].sum(), batch["audio"].size


def sentences(state, batch):
    return state + batch["text_valid"].sum(), batch["text_units"].size


@pytest.fixture
def mesh():
    return make_mesh(ParallelConfig())


def test_each_shape_has_its_program(mesh):
    state = jnp.zeros((), jnp.int32)
    with Programs(mesh) as programs:
        programs.add(jax.jit(sentences), state, None, TEXT)
        programs.add(jax.jit(samples), state, AUDIO, TEXT)
        programs.wait()
        assert len(programs) == 3
        sizes = {
            shape: {name: aval.shape for name, aval in programs[shape].in_avals[0][1].items()}
            for shape in [(None, 0), (0, 0), (1, 0)]
        }
    assert sizes[None, 0]["text_units"] == (6, 8) and "audio" not in sizes[None, 0]
    assert sizes[0, 0]["audio"] == (4, 16) and sizes[1, 0]["audio"] == (2, 32)


def test_a_program_is_used_while_others_are_compiled(mesh):
    state, traced = jnp.zeros((), jnp.int32), threading.Event()

    def slow(state, batch):
        assert traced.wait(30)
        return samples(state, batch)

    with Programs(mesh) as programs:
        programs.add(jax.jit(sentences), state, None, TEXT)
        programs.add(jax.jit(slow), state, AUDIO, TEXT)
        batch = {
            name: jnp.ones(shape, dtype)
            for name, shape, dtype in [
                ("text_units", (6, 8), jnp.int32),
                ("text_labels", (6, 16), jnp.int32),
                ("text_unit_lengths", (6,), jnp.int32),
                ("text_label_lengths", (6,), jnp.int32),
                ("text_valid", (6,), jnp.bool_),
            ]
        }
        assert programs[None, 0](state, batch)[0] == 6
        traced.set()
        programs.wait()


def test_a_failing_compilation_is_raised_where_its_program_is_asked_for(mesh):
    def broken(state, batch):
        raise ValueError("no such thing")

    with Programs(mesh) as programs:
        programs.add(jax.jit(broken), jnp.zeros(()), AUDIO)
        with pytest.raises(ValueError, match="no such thing"):
            programs[0, 0]

import threading

import jax
import jax.numpy as jnp
import pytest

from joint_st.config import ParallelConfig
from joint_st.data.batch import Shape, empty_part
from joint_st.data.buckets import Buckets
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.training import compilation
from joint_st.training.compilation import Programs

AUDIO = Buckets(bounds=(16, 32), label_bounds=(8, 8), batch_sizes=(4, 2))
TEXT = Buckets(bounds=(8,), label_bounds=(16,), batch_sizes=(6,), unit_bounds=(8,))


def samples(state, batch):
    return state + batch["paired"]["audio"].sum(), batch["paired"]["audio"].size


def sentences(state, batch):
    return state + batch["text"]["valid"].sum(), batch["text"]["units"].size


@pytest.fixture
def mesh():
    return make_mesh(ParallelConfig())


def test_each_shape_has_its_program(mesh):
    state = jnp.zeros((), jnp.int32)
    with Programs(mesh) as programs:
        programs.add(jax.jit(sentences), state, {"text": TEXT})
        programs.add(jax.jit(samples), state, {"paired": AUDIO, "text": TEXT})
        programs.wait()
        assert len(programs) == 3
        sizes = {
            shape: {
                part: {name: aval.shape for name, aval in arrays.items()}
                for part, arrays in programs[shape].in_avals[0][1].items()
            }
            for shape in [(None, 0), (0, 0), (1, 0)]
        }
    assert sizes[None, 0]["text"]["units"] == (6, 8) and "paired" not in sizes[None, 0]
    assert sizes[0, 0]["paired"]["audio"] == (4, 16) and sizes[1, 0]["paired"]["audio"] == (2, 32)


def test_only_the_shapes_that_are_asked_for_are_compiled(mesh):
    with Programs(mesh) as programs:
        asked = [Shape(1, 0)]
        programs.add(jax.jit(samples), jnp.zeros((), jnp.int32), {"paired": AUDIO, "text": TEXT}, shapes=asked)
        programs.wait()
        assert len(programs) == 1 and programs[1, 0].in_avals[0][1]["paired"]["audio"].shape == (2, 32)


def test_no_program_is_loaded_where_the_system_has_no_room_for_its_maps(mesh, monkeypatch):
    """The first takes 30,000 maps; a second one would fit, and a third, for what else a process may need, not."""
    used = iter([10_000, 40_000, 55_000])
    monkeypatch.setattr(compilation, "memory_maps", lambda: (next(used), 110_000))
    with Programs(mesh) as programs:
        programs.add(jax.jit(sentences), jnp.zeros((), jnp.int32), {"text": TEXT})
        programs.add(jax.jit(samples), jnp.zeros((), jnp.int32), {"paired": AUDIO, "text": TEXT})
        assert programs[None, 0] and programs[0, 0]
        with pytest.raises(UserError, match=r"^2 of 3 compiled steps take 55000 of the 110000 memory maps .*=440000$"):
            programs.wait()


def test_memory_maps_are_counted():
    found = compilation.memory_maps()
    if found is None:
        pytest.skip("only Linux tells them")
    used, most = found
    assert 100 < used < most


def test_a_program_is_used_while_others_are_compiled(mesh):
    state, traced = jnp.zeros((), jnp.int32), threading.Event()

    def slow(state, batch):
        assert traced.wait(30)
        return samples(state, batch)

    with Programs(mesh) as programs:
        programs.add(jax.jit(sentences), state, {"text": TEXT})
        programs.add(jax.jit(slow), state, {"paired": AUDIO, "text": TEXT})
        batch = jax.tree.map(jnp.ones_like, {"text": empty_part("text", 6, TEXT, 0)})
        assert programs[None, 0](state, batch)[0] == 6
        traced.set()
        programs.wait()


def test_a_failing_compilation_is_raised_where_its_program_is_asked_for(mesh):
    def broken(state, batch):
        raise ValueError("no such thing")

    with Programs(mesh) as programs:
        programs.add(jax.jit(broken), jnp.zeros(()), {"paired": AUDIO})
        with pytest.raises(ValueError, match="no such thing"):
            programs[0, None]

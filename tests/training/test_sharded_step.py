"""The joint step on meshes of eight devices does what it does on one, and holds its weights in parts."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from joint_st.config import ParallelConfig, override
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.collectives import instructions
from joint_st.distributed.mesh import make_mesh, put_batch
from joint_st.training.step import joint_optimizer, make_init, make_train_step, state_shapes
from tests.tiny import UNOPTIMISED, call_on_eight_devices
from tests.training.test_joint_step import JOINT, joint_batch
from tests.training.test_step import CONFIG, UNITS, VOCABULARY, close

MESHES = (
    {"data": 8},
    {"fsdp": 8},
    {"data": 4, "tensor": 2},
    {"data": 2, "fsdp": 2, "tensor": 2},
)


def mesh_of(data: int = 1, fsdp: int = 1, tensor: int = 1) -> jax.sharding.Mesh:
    """Return a mesh of the first devices."""
    config = ParallelConfig(data=data, fsdp=fsdp, tensor=tensor)
    return make_mesh(config, jax.devices()[: data * fsdp * tensor])


def sharded_step(fresh, mesh: jax.sharding.Mesh, accumulation: int = 1, **more):
    """Bytes held of the state on one device, the HLO and the results of two steps from a state on the host."""
    changes = {"training.accumulation": accumulation, "text": {"repetition": "random", "mask_share": 0.0}}
    config = override(CONFIG, {**JOINT, **changes, **more})
    sizes = config, SymbolSizes(VOCABULARY, UNITS), mesh
    with jax.set_mesh(mesh):
        shapes = state_shapes(*sizes)
        state = jax.tree.map(lambda x, shape: jax.device_put(x, shape.sharding), fresh, shapes)
        held = {name: bytes_on_first(getattr(state, name)) for name in ("params", "average", "optimizer")}
        batch = put_batch(joint_batch(), mesh)
        compiled = make_train_step(*sizes).lower(shapes, batch).compile()
        for _ in range(2):
            state, metrics = compiled(state, batch)
        for array, shape in zip(jax.tree.leaves(state), jax.tree.leaves(shapes)):
            assert array.sharding.is_equivalent_to(shape.sharding, array.ndim)
    metrics.pop("random_distance")  # alignments at random are drawn again for each part of a batch
    return held, compiled.as_text(), jax.device_get((state, metrics))


def paths(tree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def bytes_on_first(tree) -> int:
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def on_eight_devices():
    assert jax.device_count() == 8
    one = mesh_of()
    with jax.set_mesh(one):
        fresh = jax.device_get(make_init(override(CONFIG, JOINT), SymbolSizes(VOCABULARY, UNITS), one)())
    whole, _, expected = sharded_step(fresh, one)
    for mesh in MESHES:
        held, hlo, found = sharded_step(fresh, mesh_of(**mesh), accumulation=2 if "tensor" in mesh else 1)
        assert paths(found) == paths(expected)
        close(found, expected)
        moments = [jax.tree.leaves(state.optimizer[1]) for state, _ in (found, expected)]
        close(*moments, 1e-6)
        between = [one for one in instructions(hlo) if one.devices > 1]
        assert between
        assert not [one for one in between if "shard_map" in one.operation], "a dynamic program, or log-mel"
        for name in held:
            # Vectors, filters and the tables' rows stay whole, which is much of a model this small.
            share = {1: 1.0, 2: 0.85, 4: 0.5, 8: 0.35}[mesh.get("fsdp", 1) * mesh.get("tensor", 1)]
            assert held[name] <= share * whole[name], (name, mesh, held, whole)


def fixed_texts_on_eight_devices():
    """The same where texts pass through which no gradient goes."""
    one, mesh = mesh_of(), mesh_of(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(one):
        fresh = jax.device_get(make_init(override(CONFIG, JOINT), SymbolSizes(VOCABULARY, UNITS), one)())
    changes = {"losses.consistency.gradient": "audio", "losses.reconstruction.paired": 0.0}
    _, _, expected = sharded_step(fresh, one, **changes)
    _, hlo, found = sharded_step(fresh, mesh, **changes)
    close(found, expected)
    assert not [one for one in instructions(hlo) if one.devices > 1 and "shard_map" in one.operation]


def muon_on_eight_devices():
    """Two updates by Muon, which mixes all entries of a matrix; AdamW in the steps above takes each on its own."""
    config = override(CONFIG, {**JOINT, "optimizer.kind": "muon"})
    optimizer = joint_optimizer(config)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state):
        gradient = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), state.params)
        updates, kept = optimizer.update(gradient, state.optimizer, state.params)
        return state._replace(params=optax.apply_updates(state.params, updates), optimizer=kept)

    results = []
    for sizes in ({}, {"fsdp": 8}, {"data": 2, "fsdp": 2, "tensor": 2}):
        mesh = mesh_of(**sizes)
        with jax.set_mesh(mesh):
            state = make_init(config, SymbolSizes(VOCABULARY, UNITS), mesh)()
            for _ in range(2):
                state = update(state)
            results.append(jax.device_get((state.params, state.optimizer)))
    for found in results[1:]:
        close(found, results[0])


@pytest.mark.slow
@pytest.mark.parametrize("function", ["on_eight_devices", "fixed_texts_on_eight_devices", "muon_on_eight_devices"])
def test_eight_devices_do_what_one_does(function):
    call_on_eight_devices(f"tests.training.test_sharded_step:{function}", UNOPTIMISED)

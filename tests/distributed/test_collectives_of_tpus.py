"""Collectives in programs that libtpu compiles: it states loops and groups in its own way."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from joint_st.distributed.collectives import Collective, collectives
from joint_st.distributed.topology import parse_topology

pytestmark = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="no libtpu: joint_st[tpu]")

WHOLE, CUT = PartitionSpec(), PartitionSpec("b")


@pytest.fixture(scope="module")
def mesh():
    devices = parse_topology("v5e:2x4").devices()
    return jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def found(function, *arguments) -> dict[str, Collective]:
    """Collectives of a jitted function by kind."""
    return {one.kind: one for one in collectives(jax.jit(function).lower(*arguments).compile().as_text())}


def placed(mesh, shape, spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))


def test_those_in_a_loop_count_as_often_as_it_runs(mesh):
    def of_device(x):
        return jax.lax.scan(lambda x, _: (jax.lax.pmean(jnp.sin(x), "b"), None), x, length=7)[0]

    mapped = jax.shard_map(of_device, mesh=mesh, in_specs=WHOLE, out_specs=WHOLE, check_vma=False)
    assert found(mapped, placed(mesh, (256, 512), WHOLE)) == {
        "all-reduce": Collective("all-reduce", 4, 7, 7 * 256 * 512 * 4)
    }


def test_weights_of_stacked_layers_are_gathered_one_after_the_other(mesh):
    """Forward through five layers whose weights are cut in four: each is gathered when its turn comes."""

    def layers(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    x = placed(mesh, (512, 256), PartitionSpec(("a", "b")))
    weights = placed(mesh, (5, 256, 256), PartitionSpec(None, "b"))
    sent = found(layers, x, weights)
    assert sent["all-gather"].devices == 4
    assert sent["all-gather"].bytes in (5 * 256 * 256 * 4, 5 * 256 * 256 * 2)  # in float32, or bfloat16 for the MXU

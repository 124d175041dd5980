"""Names of TPU slices."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from joint_st.distributed import topology
from joint_st.distributed.topology import CHIPS, GIB, parse_topology
from joint_st.errors import UserError

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="no libtpu: joint_st[tpu]")


def test_a_name_says_how_many_chips():
    assert parse_topology("v5e:16x16").chips == 256
    found = parse_topology("v5p:8x8x16")
    assert (found.chips, found.sides) == (1024, (8, 8, 16))
    assert found.chip is CHIPS["v5p"]


@pytest.mark.parametrize("name, together", [("v5e", 400e9), ("v5p", 1200e9), ("v6e", 800e9)])
def test_links_add_up_to_what_is_published_for_a_chip(name, together):
    """Both directions of two links for each side."""
    chip = CHIPS[name]
    assert chip.link_bandwidth * 2 * 2 * chip.sides == together


@pytest.mark.parametrize("name, of_pod", [("v4", 1.1e15), ("v5e", 51.2e12), ("v6e", 102.4e12)])
def test_links_agree_with_the_published_all_reduce_of_a_pod(name, of_pod):
    chip = CHIPS[name]
    assert chip.link_bandwidth * 2 * chip.sides * chip.pod == pytest.approx(of_pod, rel=0.01)


@pytest.mark.parametrize(
    "name, complaint",
    [
        ("v5e", "written GENERATION:CHIPSxCHIPS, as in v5e:16x16"),
        ("v5e-256", "written GENERATION:CHIPSxCHIPS"),
        ("v3:4x4", "generations are v4, v5e, v5p, v6e"),
        ("v5e:4x4x4", "a slice of v5e has 2 sides"),
        ("v5p:4x4", "a slice of v5p has 3 sides"),
        ("v5e:16x32", "has 512 chips; the largest slice of v5e has 256"),
        ("v5e:0x4", "has 0 chips"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(name, complaint):
    with pytest.raises(UserError) as refused:
        parse_topology(name)
    assert str(refused.value).startswith(f"--topology {name}: ")
    assert complaint in str(refused.value)


def test_without_libtpu_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--topology v5e:2x4: needs the package libtpu; pip install 'joint_st\[tpu\]'"):
        parse_topology("v5e:2x4").devices()


@needs_libtpu
@pytest.mark.parametrize(
    "name, kind",
    [("v4:2x2x4", "TPU v4"), ("v5e:1x1", "TPU v5 lite"), ("v5p:8x8x16", "TPU v5"), ("v6e:4x4", "TPU v6 lite")],
)
def test_a_device_is_a_chip(name, kind):
    found = parse_topology(name)
    devices = found.devices()
    assert {device.device_kind for device in devices} == {kind}
    assert len({tuple(device.coords) for device in devices}) == len(devices) == found.chips


@needs_libtpu
def test_slices_are_told_apart():
    devices = parse_topology("v5e:2x2").devices(slices=2)
    assert [device.slice_index for device in devices] == [0] * 4 + [1] * 4


@needs_libtpu
def test_libtpu_is_quoted_where_it_has_no_such_slice():
    with pytest.raises(UserError, match=r"^--topology v5e:3x5: .*not divisible"):
        parse_topology("v5e:3x5").devices()


@needs_libtpu
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_usable_memory_is_what_the_compiler_says(name):
    """A function that holds twice the memory of a chip is refused, with the memory there is."""
    found = parse_topology(name)
    mesh = jax.make_mesh((found.chips,), ("data",), axis_types=(AxisType.Auto,), devices=found.devices())
    rows = found.chips * 2 * found.chip.hbm // 4096
    x = jax.ShapeDtypeStruct((rows, 1024), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("data")))
    with pytest.raises(jax.errors.JaxRuntimeError) as refused:
        jax.jit(lambda x: jnp.sin(x).T @ jnp.cos(x)).lower(x).compile()
    # The libtpu of JAX 0.11 rounds two chips' memory down by 0.01 GiB.
    usable = round(found.chip.usable / GIB, 2)
    accepted = (usable, usable - 0.01) if jax.__version_info__ >= (0, 11) else (usable,)
    assert any(f"({one:.2f}G)" in str(refused.value) for one in accepted), refused.value

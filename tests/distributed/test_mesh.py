"""Which devices form the mesh, how they are arranged, and the errors if they do not fit."""

import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from joint_st.config import Config, ParallelConfig
from joint_st.distributed.mesh import arranged, describe, make_evaluation_mesh, make_mesh, rows_shared
from joint_st.errors import UserError


def devices(count: int, slices: int = 1, **more) -> list[SimpleNamespace]:
    """Devices that state their slice, with the slices' devices mixed."""
    shared = {"platform": "tpu", "device_kind": "toy", "process_index": 0} | more
    return [SimpleNamespace(id=i, slice_index=i % slices, **shared) for i in range(count)]


@pytest.fixture(autouse=True)
def not_attached(monkeypatch):
    # A toy has no coordinates, by which JAX arranges a TPU's devices.
    from jax._src import mesh_utils

    arrange = lambda shape, devices, **_: np.array(devices, object).reshape(shape)  # noqa: E731
    monkeypatch.setitem(mesh_utils.device_kind_handler_dict, "toy", arrange)


def test_one_device():
    mesh = make_mesh(ParallelConfig())
    assert dict(mesh.shape) == {"data": jax.device_count(), "fsdp": 1, "tensor": 1}
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(
    "given, shape",
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1)),
        ({"data": 1, "fsdp": -1}, (1, 8, 1)),
        ({"data": 2, "fsdp": 2, "tensor": -1}, (2, 2, 2)),
        ({"data": 4, "tensor": 2}, (4, 1, 2)),
    ],
)
def test_axes_by_config(given, shape):
    found = arranged(ParallelConfig(**given), devices(8))
    assert found.shape == shape
    assert [device.id for device in found.flat] == list(range(8))


@pytest.mark.parametrize(
    "hosts, shape, shared",
    [("aabb", (4, 1, 1), False), ("aabb", (1, 2, 2), False), ("abab", (2, 1, 2), True), ("aabb", (1, 1, 4), True)],
)
def test_whether_hosts_hold_the_same_rows(hosts, shape, shared):
    held = np.array([SimpleNamespace(process_index=host) for host in hosts], object).reshape(shape)
    assert rows_shared(SimpleNamespace(devices=held, shape=dict(zip(("data", "fsdp", "tensor"), shape)))) == shared


def test_data_spans_the_slices_and_the_other_axes_stay_within_one():
    found = arranged(ParallelConfig(slices=2, fsdp=2, tensor=2), devices(16, slices=2))
    assert found.shape == (4, 2, 2)
    of_slice = np.vectorize(lambda device: device.slice_index)(found)
    assert (of_slice == np.array([0, 0, 1, 1])[:, None, None]).all()


def test_where_devices_say_no_slice_it_is_a_process():
    def device(i):
        return SimpleNamespace(id=i, platform="cpu", device_kind="cpu", process_index=i // 4)

    found = arranged(ParallelConfig(slices=2), [device(i) for i in range(8)])
    assert [device.process_index for device in found.flat] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    "given, there, line",
    [
        (
            {"data": 4},
            devices(8),
            "parallel.data: data 4 × fsdp 1 × tensor 1 make 4 devices, and there are 8; they must be equal, "
            "and -1 takes what the others leave",
        ),
        (
            {"data": 1, "fsdp": 4, "tensor": 4},
            devices(8),
            "parallel.fsdp: data 1 × fsdp 4 × tensor 4 make 16 devices, and there are 8; they must be equal, "
            "and -1 takes what the others leave",
        ),
        (
            {"tensor": 3},
            devices(8),
            "parallel.tensor: fsdp 1 × tensor 3 make 3, which must divide the 8 devices",
        ),
        (
            {"slices": 2, "data": 1, "fsdp": 8},
            devices(8, slices=2),
            "parallel.slices: 2 must divide the 1 devices of parallel.data, which spans the slices",
        ),
        ({"slices": 2}, devices(8), "parallel.slices: 2, but the 8 devices are of 1; set it to 1"),
        ({}, devices(8, slices=4), "parallel.slices: 1, but the 8 devices are of 4; set it to 4"),
        (
            {"slices": 2},
            devices(6) + devices(4, slices=2)[1::2],
            "parallel.slices: 2, but they differ: they have 6 and 2 devices",
        ),
    ],
)
def test_what_does_not_fit(given, there, line):
    with pytest.raises(UserError, match=f"^{re.escape(line)}$"):
        arranged(ParallelConfig(**given), there)


def test_a_mesh_is_described_by_its_axes():
    def mesh(**shape):
        kinds = np.array([SimpleNamespace(device_kind="TPU v5e")] * int(np.prod(list(shape.values()))))
        return SimpleNamespace(shape=shape, devices=kinds)

    assert describe(mesh(data=1, fsdp=1, tensor=1)) == "1 × TPU v5e"
    assert describe(mesh(data=2, fsdp=2, tensor=2)) == "8 × TPU v5e: data 2, fsdp 2, tensor 2"
    assert describe(mesh(data=1, fsdp=4, tensor=1)) == "4 × TPU v5e: fsdp 4"


def test_an_evaluation_takes_the_devices_there_are():
    """A process that computes already cannot count its CPU as more; runs that did so are evaluated all the same."""
    there = len(jax.devices())
    train = [{"kind": "manifest", "path": "none"}]
    config = Config.model_validate({"data": {"train": train}, "parallel": {"cpu_devices": there + 1}})
    with pytest.raises(UserError, match="start a new process"):
        make_mesh(config.parallel)
    assert make_evaluation_mesh(config).size in range(1, there + 1)

"""The device mesh, and where a batch lies on it; `joint_st.distributed.sharding` says where the weights lie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from joint_st import storage
from joint_st.config import AXES, Config, ParallelConfig, mesh_shape
from joint_st.errors import UserError

SHARING = ("data", "fsdp")
"""The axes whose devices share a batch; those along the other axis, `tensor`, work on the same rows."""

BATCH = PartitionSpec(SHARING)
"""A batch is cut along its first axis."""


def make_mesh(config: ParallelConfig, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """The mesh over `devices`, all there are by default; they need not be attached.

    Axes are `Auto`: the compiler places what is not said. Raises `UserError` where the devices do not fit the config.
    """
    devices = available_devices(config) if devices is None else list(devices)
    return _mesh(arranged(config, devices))


def _mesh(devices: np.ndarray) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def arranged(config: ParallelConfig, devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices by their place on the mesh, neighbours on it near each other: [data, fsdp, tensor].

    Devices belong to the slice that they name (`slice_index`); where they name none, each process is a slice. Devices
    of a TPU that is only compiled for name theirs where there is more than one.
    """
    data, fsdp, tensor = mesh_shape(config, len(devices)).values()
    says = all(hasattr(device, "slice_index") for device in devices)
    slices = Counter(device.slice_index if says else device.process_index for device in devices)
    if len(slices) != config.slices and (config.slices > 1 or (says and devices[0].platform == "tpu")):
        raise UserError(
            f"parallel.slices: {config.slices}, but the {len(devices)} devices are of {len(slices)}; "
            f"set it to {len(slices)}"
        )
    if config.slices == 1:
        return mesh_utils.create_device_mesh((data, fsdp, tensor), devices, allow_split_physical_axes=True)
    if len(set(slices.values())) > 1:
        of = " and ".join(map(str, sorted(set(slices.values()), reverse=True)))
        raise UserError(f"parallel.slices: {config.slices}, but they are not alike: of {of} devices")
    return mesh_utils.create_hybrid_device_mesh(
        (data // config.slices, fsdp, tensor),
        (config.slices, 1, 1),
        devices,
        process_is_granule=not says,
        allow_split_physical_axes=True,
    )


def make_evaluation_mesh(config: Config) -> jax.sharding.Mesh:
    """A mesh for a run's checkpoint on whatever machine: the most devices that an evaluation batch divides over.

    Each holds all weights. Not more devices than the run's own mesh has, where that is a number; fewer where there are
    fewer, as where JAX is already initialised with others.
    """
    parallel = config.parallel
    try:
        devices = available_devices(parallel)
    except UserError:
        devices = jax.devices()
    most = parallel.data * parallel.fsdp * parallel.tensor
    most = len(devices) if -1 in (parallel.data, parallel.fsdp, parallel.tensor) else min(most, len(devices))
    size, hosts = config.evaluation.batch_size, len({device.process_index for device in devices})
    count = max((n for n in range(hosts, most + 1, hosts) if size % n == 0), default=None)
    if count is None:
        raise UserError(f"evaluation.batch_size: {size} must be a multiple of the {hosts} processes that share it")
    return _mesh(np.array(shared_devices(devices, count)).reshape(count, 1, 1))


def available_devices(config: ParallelConfig) -> list[jax.Device]:
    """All devices; raises `UserError` where it is too late to make `config.cpu_devices` of the CPU."""
    # JAX takes it only before its first look at the devices.
    if config.cpu_devices not in (1, jax.config.jax_num_cpu_devices):
        try:
            jax.config.update("jax_num_cpu_devices", config.cpu_devices)
        except RuntimeError:
            raise UserError(
                f"parallel.cpu_devices: {config.cpu_devices}, but JAX is already initialised with other devices; it must "
                "be set before JAX is used: start a new process"
            ) from None
    return jax.devices()


def describe(mesh: jax.sharding.Mesh) -> str:
    """How many devices of which kind, and the axes of the mesh that have more than one."""
    devices = mesh.devices.flatten()
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    return f"{len(devices)} × {devices[0].device_kind}" + (f": {sizes}" if sizes else "")


def batch_devices(mesh: jax.sharding.Mesh) -> int:
    """Devices that a batch is cut over."""
    return int(np.prod([mesh.shape[axis] for axis in SHARING]))


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Sharding of every array of a batch."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
    """This host's rows of a batch, as its part of arrays over the whole mesh.

    batch: a tree of NumPy arrays of the rows that `rows_here` says. Returns one of the same structure.
    """
    sharding, (held, of) = batch_sharding(mesh), rows_here(mesh)

    def put(rows):
        whole = (len(rows) * of // len(held), *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, whole)

    return jax.tree.map(put, batch)


def rows_here(mesh: jax.sharding.Mesh) -> tuple[tuple[int, ...], int]:
    """Which parts of a batch cut into how many equal ones this host's devices hold."""
    return host_parts(batch_sharding(mesh))


def over_batch(function, mesh: jax.sharding.Mesh, *, differentiable: bool = False, whole: int = 0):
    """`function` of arrays with a batch axis first, run on each device's rows alone: it can cause no collective.

    Nor can its gradient where it is `differentiable`: JAX then follows which arrays are the same along the axis
    `tensor`, and otherwise would add up gradients over it. Loops in such a function start from arrays of the batch.

    whole: the first arguments that have no batch axis, such as tables, which every device gets as they are.
    """

    def run(*arguments):
        specs = (PartitionSpec(),) * whole + (BATCH,) * (len(arguments) - whole)
        sharded = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=BATCH, check_vma=differentiable)
        return sharded(*arguments)

    return run


def ambient_mesh(rows: int | None = None) -> jax.sharding.AbstractMesh | None:
    """The mesh of `jax.set_mesh`, in a function that is traced; `None` where there is none, or one device.

    Also `None` where it does not divide `rows`, if given.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or not set(AXES) <= set(mesh.axis_names):
        return None
    return mesh if rows is None or rows % batch_devices(mesh) == 0 else None


def host_parts(sharding: jax.sharding.NamedSharding) -> tuple[tuple[int, ...], int]:
    """The parts, ascending, that this host holds of an array cut along its first axis, and how many there are in all.

    They need not be neighbours: a mesh follows the wires between the devices. Hosts may hold the same ones.
    """
    size = sharding.num_devices
    first = {device: index[0].indices(size)[:2] for device, index in sharding.devices_indices_map((size,)).items()}
    start, stop = next(iter(first.values()))
    each = stop - start
    held = {first[device][0] // each for device in sharding.addressable_devices}
    return tuple(sorted(held)), size // each


def shared_devices(devices: Sequence[jax.Device], count: int) -> list[jax.Device]:
    """`count` of the devices, as many on each host. Raises `UserError` where they do not divide over the hosts."""
    hosts = sorted({device.process_index for device in devices})
    if count % len(hosts):
        raise UserError(
            f"parallel: {count} devices do not divide over {len(hosts)} processes; take a multiple, or all devices"
        )
    of_host = ([device for device in devices if device.process_index == host] for host in hosts)
    return [device for some in of_host for device in some[: count // len(hosts)]]


def fetch(tree):
    """Arrays over the whole mesh as NumPy arrays on every host; all hosts must ask at once."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(tree, tiled=True)


def keep_compiled(folder: str) -> None:
    """Keep this process's compiled programs in `folder`, so that a second start is quick; nowhere where it is empty.

    Every later process on machines of this kind finds them there.
    """
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(storage.path(os.path.expanduser(folder))))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

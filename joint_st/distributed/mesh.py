"""The device mesh, and how a batch is placed on it; `joint_st.distributed.sharding` places the weights."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from joint_st import storage
from joint_st.config import AXES, Config, ParallelConfig, mesh_shape
from joint_st.errors import UserError

SHARING = ("data", "fsdp")
"""The axes whose devices share a batch; devices along the other axis, `tensor`, work on the same rows."""

BATCH = PartitionSpec(SHARING)
"""A batch is cut along its first axis."""


def make_mesh(config: ParallelConfig, devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
    """Make the mesh over `devices`, by default all devices; they need not be attached.

    Axes are `Auto`: the compiler places arrays without a stated sharding. Raises `UserError` where the devices do not
    fit the config.
    """
    devices = available_devices(config) if devices is None else list(devices)
    return _mesh(arranged(config, devices))


def _mesh(devices: np.ndarray) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def arranged(config: ParallelConfig, devices: Sequence[jax.Device]) -> np.ndarray:
    """Arrange devices on the mesh so that neighbours are near each other: [data, fsdp, tensor].

    Devices state their slice (`slice_index`); if they do not, each process is a slice. Devices of a TPU that is only
    compiled for state it where there is more than one slice.
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
        raise UserError(f"parallel.slices: {config.slices}, but they differ: they have {of} devices")
    return mesh_utils.create_hybrid_device_mesh(
        (data // config.slices, fsdp, tensor),
        (config.slices, 1, 1),
        devices,
        process_is_granule=not says,
        allow_split_physical_axes=True,
    )


def make_evaluation_mesh(config: Config) -> jax.sharding.Mesh:
    """Make a mesh for a run's checkpoint on any machine: the most devices over which an evaluation batch divides.

    Each device holds all weights. The mesh has at most as many devices as the run's own mesh, if that states a number,
    but one for each process, and fewer if fewer are available, for instance because JAX is already initialised.
    """
    parallel = config.parallel
    try:
        devices = available_devices(parallel)
    except UserError:
        devices = jax.devices()
    most = parallel.data * parallel.fsdp * parallel.tensor
    most = len(devices) if -1 in (parallel.data, parallel.fsdp, parallel.tensor) else min(most, len(devices))
    size, hosts = config.evaluation.batch_size, len({device.process_index for device in devices})
    count = max((n for n in range(hosts, max(most, hosts) + 1, hosts) if size % n == 0), default=None)
    if count is None:
        raise UserError(f"evaluation.batch_size: {size} must be a multiple of the {hosts} processes that share it")
    return _mesh(np.array(shared_devices(devices, count)).reshape(count, 1, 1))


def available_devices(config: ParallelConfig) -> list[jax.Device]:
    """Return all devices; raises `UserError` where it is too late to split the CPU into `config.cpu_devices`."""
    # JAX accepts it only before it first looks at the devices.
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
    """Describe the number and kind of devices, and the axes of the mesh that have more than one."""
    devices = mesh.devices.flatten()
    sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items() if size > 1)
    return f"{len(devices)} × {devices[0].device_kind}" + (f": {sizes}" if sizes else "")


def device_name() -> str:
    """Return the kind of a device of this process; of a CPU its model, and how many threads can run."""
    first = jax.devices()[0]
    if first.platform != "cpu":
        return first.device_kind
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{models[0] if models else platform.machine()}, {threads} threads"


def batch_devices(mesh: jax.sharding.Mesh) -> int:
    """Return the number of devices over which a batch is cut."""
    return int(np.prod([mesh.shape[axis] for axis in SHARING]))


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of every array of a batch."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of an array that every device holds completely."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
    """Put this host's rows of a batch into arrays over the whole mesh.

    batch: a tree of NumPy arrays with the rows of `rows_here`. Returns a tree of the same structure.
    """
    sharding, (held, of) = batch_sharding(mesh), rows_here(mesh)

    def put(rows):
        whole = (len(rows) * of // len(held), *rows.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, whole)

    return jax.tree.map(put, batch)


def rows_here(mesh: jax.sharding.Mesh) -> tuple[tuple[int, ...], int]:
    """Return which of how many equal parts of a batch this host's devices hold."""
    return host_parts(batch_sharding(mesh))


def rows_shared(mesh: jax.sharding.Mesh) -> bool:
    """Return whether several hosts hold the same rows of a batch, as where the axis `tensor` spans hosts."""
    hosts = mesh.devices.reshape(batch_devices(mesh), -1)
    return any(len({device.process_index for device in devices}) > 1 for devices in hosts)


def over_batch(function, mesh: jax.sharding.Mesh, *, differentiable: bool = False, whole: int = 0):
    """Run `function` of arrays, whose first axis is the batch, on each device's rows alone, so that it cannot cause a
    collective.

    With `differentiable`, its gradient cannot cause one either: JAX then tracks which arrays are equal along the axis
    `tensor`, over which it would otherwise sum gradients. Loops in such a function must start from arrays of the batch.

    whole: number of leading arguments without a batch axis, such as tables, which every device gets completely.
    """

    def run(*arguments):
        specs = (PartitionSpec(),) * whole + (BATCH,) * (len(arguments) - whole)
        sharded = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=BATCH, check_vma=differentiable)
        return sharded(*arguments)

    return run


def ambient_mesh(rows: int | None = None) -> jax.sharding.AbstractMesh | None:
    """Return the mesh of `jax.set_mesh` in a traced function; `None` where there is none, or only one device.

    It is also `None` where the mesh does not divide `rows`, if given.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1 or not set(AXES) <= set(mesh.axis_names):
        return None
    return mesh if rows is None or rows % batch_devices(mesh) == 0 else None


def host_parts(sharding: jax.sharding.NamedSharding) -> tuple[tuple[int, ...], int]:
    """Return the parts, ascending, of an array cut along its first axis that this host holds, and how many parts there
    are.

    The parts need not be neighbours, since a mesh follows the connections between devices, and hosts may hold the same
    ones.
    """
    size = sharding.num_devices
    first = {device: index[0].indices(size)[:2] for device, index in sharding.devices_indices_map((size,)).items()}
    start, stop = next(iter(first.values()))
    each = stop - start
    held = {first[device][0] // each for device in sharding.addressable_devices}
    return tuple(sorted(held)), size // each


def shared_devices(devices: Sequence[jax.Device], count: int) -> list[jax.Device]:
    """Return `count` devices, equally many on each host. Raises `UserError` where they do not divide over the hosts."""
    hosts = sorted({device.process_index for device in devices})
    if count % len(hosts):
        raise UserError(
            f"parallel: {count} devices do not divide over {len(hosts)} processes; take a multiple, or all devices"
        )
    of_host = ([device for device in devices if device.process_index == host] for host in hosts)
    return [device for some in of_host for device in some[: count // len(hosts)]]


def fetch(tree):
    """Return arrays over the whole mesh as NumPy arrays on every host; all hosts must call it together."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(tree, tiled=True)


def keep_compiled(folder: str) -> None:
    """Keep this process's compiled programs in `folder`, so that a second start is quick; empty for no cache.

    Later processes on machines of this kind find them there.
    """
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(storage.path(os.path.expanduser(folder))))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

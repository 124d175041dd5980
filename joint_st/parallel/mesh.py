"""The device mesh, and where a batch and the parameters lie on it."""

from __future__ import annotations

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from joint_st.config import Config, ParallelConfig
from joint_st.errors import UserError

BATCH = PartitionSpec("data")
"""A batch is cut along its first axis."""


def make_mesh(config: ParallelConfig) -> jax.sharding.Mesh:
    """The mesh over the first `config.data` devices, or over all of them.

    Axes are `Auto`: the compiler places what is not said. Raises `UserError` where there are too few devices.
    """
    devices = available_devices(config)
    count = len(devices) if config.data == -1 else config.data
    if count > len(devices):
        raise UserError(f"parallel.data: {count} devices asked for, but there are {len(devices)}; lower it or use -1")
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])


def make_evaluation_mesh(config: Config) -> jax.sharding.Mesh:
    """A mesh for a run's checkpoint on whatever machine: the most devices that an evaluation batch divides over.

    Not more than `parallel.data`, where that names a number; fewer where there are fewer.
    """
    parallel = config.parallel
    most = len(available_devices(parallel))
    if parallel.data != -1:
        most = min(most, parallel.data)
    count = max(n for n in range(1, most + 1) if config.evaluation.batch_size % n == 0)
    return make_mesh(parallel.model_copy(update={"data": count}))


def available_devices(config: ParallelConfig) -> list[jax.Device]:
    """All devices; raises `UserError` where the CPU cannot count as `config.cpu_devices` any more."""
    # Before the first look at the devices: later on, JAX does not take it any more.
    if config.cpu_devices not in (1, jax.config.jax_num_cpu_devices):
        try:
            jax.config.update("jax_num_cpu_devices", config.cpu_devices)
        except RuntimeError:
            raise UserError(
                f"parallel.cpu_devices: this process computes with other devices already, so not with "
                f"{config.cpu_devices} on the CPU; start a new process"
            ) from None
    return jax.devices()


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Sharding of every array of a batch."""
    return NamedSharding(mesh, BATCH)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict, mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """This host's rows of a batch (NumPy arrays) as its part of arrays over the whole mesh."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}


def over_batch(function, mesh: jax.sharding.Mesh):
    """`function` of arrays with a batch axis first, run on each device's rows alone: it can cause no collective."""
    return jax.shard_map(function, mesh=mesh, in_specs=BATCH, out_specs=BATCH, check_vma=False)

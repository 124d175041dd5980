"""Sizes of a model: how large a checkpoint is, and how much of the state a device holds, without computing anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from joint_st.config import AXES, Config, check_devices, mesh_shape
from joint_st.doctor.check import Check

GIB = 1 << 30


class Size(NamedTuple):
    """The arrays of a training state."""

    parameters: int
    """Number of parameters."""
    checkpoint: int
    """Bytes of a checkpoint, which holds all of the state."""
    device: int
    """Bytes that each device needs at least: its part of the state and of the gradients, and the batch."""
    assumed: tuple[str, ...]
    """Sizes of inventories that were assumed, in words."""


def size(config: Config, device_count: int, labels: int | None = None, units: int | None = None) -> Size:
    """Return the size of a config's state over a number of devices, from its shapes. labels, units: sizes of a run's
    inventories."""
    import jax
    from jax.sharding import AbstractMesh, AxisType

    from joint_st.compile_check.compiled import bytes_per_device
    from joint_st.compile_check.shapes import heaviest, sizes
    from joint_st.models.functional import count_weights
    from joint_st.training.step import state_shapes

    counts = sizes(config, labels, units)
    shape = mesh_shape(config.parallel, device_count)
    mesh = AbstractMesh(tuple(shape.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    state = state_shapes(config, counts.sizes, mesh)
    batch = sum(
        2 * buckets.batch_sizes[-1] * buckets.bounds[-1]
        for name, buckets in heaviest(config).items()
        if name == "paired"
    )
    whole = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
    # Gradients are as large as the parameters; the loss has at least one batch of samples before it.
    own = bytes_per_device(state) + bytes_per_device(state.params) + batch // (shape["data"] * shape["fsdp"])
    return Size(count_weights(state.params), whole, own, counts.assumed)


def fits(
    config: Config, device_count: int, of_each: int | None, where: str, labels: int | None = None
) -> Iterator[Check]:
    """Check that the mesh of a config fits a number of devices. of_each: memory of each in bytes, where it is known.
    labels: number of labels of the run that goes on."""
    check_devices(config, device_count)
    shape = " × ".join(f"{axis} {n}" for axis, n in mesh_shape(config.parallel, device_count).items())
    yield Check("ok", "parallel", f"{shape} on {device_count} devices of {where}")
    found = size(config, device_count, labels)
    assumed = f" ({', '.join(found.assumed)} assumed)" if found.assumed else ""
    told = f"{found.parameters:,} parameters{assumed}; at least {found.device / GIB:.2f} GiB on each device"
    exact = "activations come on top: `joint-st compile CONFIG --topology NAME` counts them for a TPU slice"
    if of_each is None:
        yield Check("ok", "memory of a device", f"{told}; {exact}")
    elif found.device > of_each:
        yield Check(
            "problem",
            "memory of a device",
            f"{told}, and {of_each / GIB:.2f} GiB are there",
            "raise parallel.fsdp, lower model.width or data.batch_size, or take devices that hold more",
        )
    elif found.device > 0.6 * of_each:
        do = "try `joint-st compile CONFIG --topology NAME`, or train a few steps with --model.remat true"
        yield Check("warning", "memory of a device", f"{told} of {of_each / GIB:.2f} GiB; {exact}", do)
    else:
        yield Check("ok", "memory of a device", f"{told} of {of_each / GIB:.2f} GiB; {exact}")

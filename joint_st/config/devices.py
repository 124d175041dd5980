"""Checks that a config fits the available devices."""

from __future__ import annotations

import math

from joint_st.config.language_model import LmConfig
from joint_st.config.schema import Config
from joint_st.config.sections.training import ParallelConfig
from joint_st.errors import UserError

AXES = ("data", "fsdp", "tensor")
"""Axes of the mesh; the last one communicates most."""


def mesh_shape(parallel: ParallelConfig, device_count: int) -> dict[str, int]:
    """Return the number of devices along each of `AXES`, with -1 filled in; the product is `device_count`, the devices
    of all hosts.

    Raises `UserError` that names the numbers that clash.
    """
    sizes = {axis: getattr(parallel, axis) for axis in AXES}
    given = {axis: size for axis, size in sizes.items() if size != -1}
    product = math.prod(given.values())
    # The field that most likely has to change: one that does not have its default.
    field = next((axis for axis in given if given[axis] != 1), next(iter(given)))
    shown = " × ".join(f"{axis} {size}" for axis, size in given.items())
    if len(given) == len(AXES) and product != device_count:
        raise UserError(
            f"parallel.{field}: {shown} make {product} devices, and there are {device_count}; "
            "they must be equal, and -1 takes what the others leave"
        )
    if device_count % product:
        raise UserError(f"parallel.{field}: {shown} make {product}, which must divide the {device_count} devices")
    sizes = {axis: device_count // product if size == -1 else size for axis, size in sizes.items()}
    if sizes["data"] % parallel.slices:
        raise UserError(
            f"parallel.slices: {parallel.slices} must divide the {sizes['data']} devices of parallel.data, "
            "which spans the slices"
        )
    return sizes


def check_devices(config: Config, device_count: int) -> int:
    """Return how many devices share a batch, after checking that the config divides over the mesh of `device_count`
    devices.

    Raises `UserError` that names the two numbers that clash.
    """
    sizes = mesh_shape(config.parallel, device_count)
    # The heads divide the width, so where `tensor` divides the heads it also divides the feed-forward's width.
    for axis, field in (("fsdp", "width"), ("tensor", "heads")):
        if getattr(config.model, field) % sizes[axis]:
            raise UserError(
                f"model.{field}: {getattr(config.model, field)} must be a multiple of the {sizes[axis]} devices "
                f"of parallel.{axis}"
            )
    sharing = sizes["data"] * sizes["fsdp"]
    parts = config.training.accumulation
    for name in ("batch_size", "text_batch_size"):
        batch = getattr(config.data, name)
        if batch // parts % sharing:
            per_part = f" / training.accumulation {parts} = {batch // parts}" if parts > 1 else ""
            raise UserError(
                f"data.{name}: {batch}{per_part} must be a multiple of the {sharing} devices that share a batch"
            )
    if config.evaluation.batch_size % sharing:
        raise UserError(
            f"evaluation.batch_size: {config.evaluation.batch_size} must be a multiple of "
            f"the {sharing} devices that share a batch"
        )
    return sharing


def check_lm_devices(config: LmConfig, device_count: int) -> None:
    """Check that the config of a language model divides over the mesh of `device_count` devices; raises `UserError` as
    `check_devices` does."""
    sizes = mesh_shape(config.parallel, device_count)
    if sizes["tensor"] > 1:
        raise UserError(f"parallel.tensor: {sizes['tensor']}, but layers of a language model are not cut; set it to 1")
    if config.model.width % sizes["fsdp"]:
        raise UserError(
            f"model.width: {config.model.width} must be a multiple of the {sizes['fsdp']} devices of parallel.fsdp"
        )
    sharing = sizes["data"] * sizes["fsdp"]
    if config.data.batch_size % sharing:
        raise UserError(
            f"data.batch_size: {config.data.batch_size} must be a multiple of the {sharing} devices that share a batch"
        )

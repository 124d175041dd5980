"""What of a batch lies on this host's devices, and which devices of each host a mesh takes."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from joint_st.errors import UserError


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

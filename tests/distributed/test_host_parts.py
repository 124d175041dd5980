"""What of a batch lies on a host's devices, on meshes that follow wires and not hosts."""

from types import SimpleNamespace

import pytest

from joint_st.distributed.mesh import host_parts, shared_devices
from joint_st.errors import UserError


def sharding(hosts: str, mine: str, copies: int = 1):
    """Return the sharding of a batch over devices of `hosts`, in this order, seen from the host `mine`; `copies`
    devices hold each part."""
    devices = [f"{host}{place}" for place, host in enumerate(hosts)]
    size = len(devices)
    return SimpleNamespace(
        num_devices=size,
        addressable_devices={device for device in devices if device[0] == mine},
        devices_indices_map=lambda shape: {
            device: (slice(place // copies * copies, place // copies * copies + copies),)
            for place, device in enumerate(devices)
        },
    )


@pytest.mark.parametrize(
    "hosts, copies, expected",
    [
        ("aabb", 1, {"a": ((0, 1), 4), "b": ((2, 3), 4)}),
        ("aabbaabb", 1, {"a": ((0, 1, 4, 5), 8), "b": ((2, 3, 6, 7), 8)}),
        ("aabb", 2, {"a": ((0,), 2), "b": ((1,), 2)}),
        ("abab", 2, {"a": ((0, 1), 2), "b": ((0, 1), 2)}),
        ("aa", 2, {"a": ((0,), 1)}),
    ],
)
def test_parts_of_hosts(hosts, copies, expected):
    assert {host: host_parts(sharding(hosts, host, copies)) for host in expected} == expected


def test_a_mesh_takes_as_many_devices_of_each_host():
    devices = [SimpleNamespace(process_index=host, id=id) for id, host in enumerate([0, 0, 0, 1, 1, 1])]
    assert [device.id for device in shared_devices(devices, 4)] == [0, 1, 3, 4]
    assert shared_devices(devices, 6) == devices
    with pytest.raises(UserError, match="3 devices do not divide over 2 processes"):
        shared_devices(devices, 3)

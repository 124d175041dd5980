"""Lower bounds of a step's time, against numbers worked out by hand."""

import numpy as np
import pytest

from joint_st.compile_check.bounds import (
    Bounds,
    Run,
    Sent,
    bounds,
    link_bandwidth,
    link_seconds,
    run,
    sent,
    sent_by_chip,
)
from joint_st.distributed.collectives import Instruction
from joint_st.distributed.topology import parse_topology

GB = 10**9
SLICE = parse_topology("v5e:2x4")
"""Its links carry 50 GB/s each way: one between two chips along the first side, three between four along the second."""


@pytest.mark.parametrize(
    "kind, members, expected",
    [
        ("all-gather", range(8), 700),
        ("reduce-scatter", range(8), 700),
        ("all-to-all", range(8), 700),
        ("all-reduce", range(8), 1400),
        ("collective-permute", (0, 2, 4, 6), 400),
    ],
)
def test_what_a_chip_sends_in_a_collective_of_800_bytes(kind, members, expected):
    assert sent_by_chip(Instruction(kind, 8, 1, 800, "", tuple(members))) == expected


def test_it_is_told_by_axes_of_the_mesh_and_sides_of_the_slice():
    """`data` lies along the first side of the slice and `fsdp` along the second."""
    places = np.array([[(x, y, 0) for y in range(4)] for x in range(2)])[:, :, None]
    found = sent(
        [
            Instruction("all-gather", 4, 2, 4000, "", (0, 1, 2, 3)),
            Instruction("reduce-scatter", 4, 1, 4000, "", (4, 5, 6, 7)),
            Instruction("all-reduce", 2, 1, 100, "", (1, 5)),
            Instruction("all-reduce", 8, 1, 80, "", tuple(range(8))),
            Instruction("all-reduce", 1, 1, 10**9, "", (3,)),
            Instruction("all-reduce between slices", 2, 1, 10**9, ""),
        ],
        places,
        ("data", "fsdp", "tensor"),
    )
    assert found == (
        Sent(("fsdp",), (1,), 6000),
        Sent(("data", "fsdp"), (0, 1), 140),
        Sent(("data",), (0,), 100),
    )


@pytest.mark.parametrize(
    "name, sides, expected",
    [
        ("v5e:2x4", [0], 50),  # one link for two chips, in both directions
        ("v5e:2x4", [1], 75),  # three for four
        ("v5e:2x4", [0, 1], 125),
        ("v5e:4x4", [0, 1], 150),
        ("v5e:16x16", [1], 100),  # a ring: two links of each chip
        ("v5e:16x16", [0, 1], 200),
        ("v6e:16x16", [0, 1], 400),
        ("v5p:8x8x16", [0, 1, 2], 600),
        ("v5p:2x2x2", [0, 1, 2], 300),
        ("v4:4x4x8", [2], 90),
    ],
)
def test_bandwidth_of_links_in_gigabytes_a_second(name, sides, expected):
    assert link_bandwidth(parse_topology(name), sides) == pytest.approx(expected * GB)


def test_each_side_has_its_own_links():
    first, second = Sent(("data",), (0,), 50 * GB), Sent(("fsdp",), (1,), 150 * GB)
    assert link_seconds(SLICE, []) == 0
    assert link_seconds(SLICE, [first]) == 1
    assert link_seconds(SLICE, [first, second]) == 2  # both at a time, the second takes longer
    everywhere = Sent(("data", "fsdp"), (0, 1), 125 * GB)
    assert link_seconds(SLICE, [everywhere]) == 1
    assert link_seconds(SLICE, [first, second, everywhere]) == pytest.approx(325 / 125)


def test_the_largest_bounds_the_step():
    flops, hbm = 197 * 10**12, 819 * GB
    found = bounds(SLICE, flops, 2 * hbm, [Sent(("data",), (0,), 25 * GB)])
    assert found == Bounds(compute=1, memory=2, links=0.5)
    assert (found.largest, found.seconds) == ("memory", 2)
    assert bounds(SLICE, 3 * flops, 2 * hbm, []) == Bounds(3, 2, 0)
    assert bounds(SLICE, flops, 0, [Sent(("data",), (0,), 200 * GB)]).largest == "links"


def test_without_a_program_only_products_are_known():
    found = bounds(SLICE, 197 * 10**9, None, None)
    assert found == Bounds(0.001, None, None)
    assert (found.largest, found.seconds) == ("compute", 0.001)


def test_a_run_takes_as_many_steps():
    found = Bounds(compute=0.5, memory=2, links=0.1)
    assert run(found, steps=5400, chips=16, price=1.5) == Run(5400, hours=3, chip_hours=48, cost=72)
    assert run(found, steps=5400, chips=16).cost is None

"""The command `joint-st compile`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from joint_st.compile_check.advice import changes
from joint_st.compile_check.compiled import Compiled, compile_step
from joint_st.compile_check.shapes import describe, heaviest, sizes
from joint_st.config import Config
from joint_st.distributed.topology import GIB, Topology, parse_topology

NAMES = {
    "parameters": "parameters",
    "average": "their moving average",
    "optimizer": "optimizer state",
    "batch": "batch",
    "temporaries": "activations and temporaries",
    "program": "program and padding",
}
"""Of the fields of `Memory`."""


def compile_for(
    config: Config,
    topology: str,
    labels: int | None = None,
    units: int | None = None,
    json_file: Path | None = None,
    quick: bool = False,
) -> bool:
    """Compiles the step for the slice named, prints what it takes of each chip, and says whether it fits."""
    found = parse_topology(topology)
    # Traced where there need not be a TPU; one that is here may be in use.
    jax.config.update("jax_platforms", "cpu")
    counts = sizes(config, labels, units)
    assumed = f"; assumed: {', '.join(counts.assumed)}" if counts.assumed else ""
    batch = describe(config, heaviest(config))
    print(f"batch    {batch}", file=sys.stderr)
    labels, units, _ = counts.sizes
    print(f"sizes    {labels} labels, {units} text units{assumed}", file=sys.stderr, flush=True)
    compiled = compile_step(config, found, counts.sizes, quick)
    print("\n".join(report(config, found, compiled)))
    if json_file:
        row = to_json(config, found, compiled) | {"batch": batch, "labels": labels, "units": units}
        row |= {"assumed": counts.assumed, "quick": quick}
        json_file.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return compiled.fits


def report(config: Config, topology: Topology, compiled: Compiled) -> Iterator[str]:
    """The lines for people."""
    memory, usable = compiled.memory, compiled.usable
    axes = " × ".join(f"{axis} {size}" for axis, size in compiled.mesh.items())
    yield f"{config.name} on {topology.name}: {compiled.chips} chips as {axes}; {compiled.parameters:,} parameters"
    yield f"memory of a chip, of {usable / GIB:.2f} GiB"
    for name, words in NAMES.items():
        size = getattr(memory, name)
        yield f"  {words:<28}{size / GIB:>9.3f} GiB {size / usable:>7.1%}"
    yield f"  {'all':<28}{memory.total / GIB:>9.3f} GiB {memory.total / usable:>7.1%}"
    seconds = compiled.flops / topology.chip.peak_flops
    yield f"matrix products  {compiled.flops / 1e12:,.3f} TFLOPs a step and chip: {1e3 * seconds:,.2f} ms at its peak"
    if compiled.collectives:
        yield "collectives of a step on a chip, whole arrays"
    for kind, devices, count, size in compiled.collectives:
        yield f"  {kind:<20}{count:>6} among {devices:<5} {size / 2**20:>11,.2f} MiB"
    yield f"compiled in {compiled.seconds:.0f} s"
    if compiled.fits:
        yield f"fits: {(usable - memory.total) / GIB:.2f} GiB of each chip are left"
        return
    first, *others = changes(config, compiled)
    yield f"does not fit: {(memory.total - usable) / GIB:.2f} GiB more than a chip has"
    yield f"change first  {first}"
    for change in others:
        yield f"        then  {change}"


def to_json(config: Config, topology: Topology, compiled: Compiled) -> dict:
    """What was found, all sizes in bytes on a chip."""
    found = dataclasses.asdict(compiled)
    memory = found.pop("memory") | {"total": compiled.memory.total, "usable": found.pop("usable")}
    found["collectives"] = [one._asdict() for one in compiled.collectives]
    return {
        "config": config.name,
        "topology": topology.name,
        "chips": compiled.chips,
        "hbm": topology.chip.hbm,
        "memory": memory,
        "fits": compiled.fits,
        **found,
        "change": [] if compiled.fits else list(changes(config, compiled)),
    }

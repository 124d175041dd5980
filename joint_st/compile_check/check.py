"""`joint-st compile`: whether a training step fits the chips of a slice, and what to change if it does not."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from joint_st import storage
from joint_st.compile_check.bounds import Bounds, Run, bounds, run
from joint_st.compile_check.compiled import Compiled, compile_step
from joint_st.compile_check.shapes import describe_batch, heaviest, sizes
from joint_st.config import Config
from joint_st.config.devices import check_devices
from joint_st.distributed.topology import GIB, Topology, parse_topology
from joint_st.errors import UserError

NAMES = {
    "parameters": "parameters",
    "average": "their moving average",
    "optimizer": "optimizer state",
    "batch": "batch",
    "temporaries": "activations and temporaries",
    "program": "program and padding",
}
"""Names of the fields of `Memory` as they are printed."""

BOUND_BY = {"compute": "matrix products", "memory": "memory", "links": "links"}
"""Names of the fields of `Bounds` as they are printed."""


def compile_for(
    config: Config,
    topology: str,
    labels: int | None = None,
    units: int | None = None,
    json_file: Path | None = None,
    quick: bool = False,
    price: float | None = None,
) -> bool:
    """Compile the step for the slice named, print what it needs on each chip, and return whether it fits.

    price: of an hour of one chip.
    """
    found = parse_topology(topology)
    # Traced on the CPU: there need not be a TPU here, and one that is here may be in use.
    jax.config.update("jax_platforms", "cpu")
    counts = sizes(config, labels, units)
    assumed = f"; assumed: {', '.join(counts.assumed)}" if counts.assumed else ""
    batch = describe_batch(config, heaviest(config))
    print(f"batch    {batch}", file=sys.stderr)
    labels, units, _ = counts.sizes
    print(f"sizes    {labels} labels, {units} text units{assumed}", file=sys.stderr, flush=True)
    compiled = compile_step(config, found, counts.sizes, quick)
    problem = ""
    if json_file:
        row = to_json(config, found, compiled, price) | {"batch": batch, "labels": labels, "units": units}
        row |= {"assumed": counts.assumed, "quick": quick}
        # Written first, so that nothing is lost with the terminal.
        problem = storage.keep(lambda path: storage.write_output(path, json.dumps(row, indent=1) + "\n"), json_file)
    print("\n".join(report(config, found, compiled, price)))
    if problem:
        raise UserError(problem)
    return compiled.fits


def report(config: Config, topology: Topology, compiled: Compiled, price: float | None = None) -> Iterator[str]:
    """Yield the lines of the printed report."""
    memory, usable = compiled.memory, compiled.usable
    axes = " × ".join(f"{axis} {size}" for axis, size in compiled.mesh.items())
    yield f"{config.name} on {topology.name}: {compiled.chips} chips as {axes}; {compiled.parameters:,} parameters"
    yield f"memory of a chip, of {usable / GIB:.2f} GiB"
    for name, words in NAMES.items():
        size = getattr(memory, name)
        yield f"  {words:<28}{size / GIB:>9.3f} GiB {size / usable:>7.1%}"
    yield f"  {'all':<28}{memory.total / GIB:>9.3f} GiB {memory.total / usable:>7.1%}"
    found = bounds(topology, compiled.flops, compiled.hbm_traffic, compiled.sent)
    yield from describe_bounds(compiled, found)
    if compiled.fits:
        yield describe_run(run(found, config.training.steps, compiled.chips, price), price)
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


def describe_bounds(compiled: Compiled, found: Bounds) -> Iterator[str]:
    """Yield what a step of this program takes at least, by what bounds it."""
    yield f"matrix products  {compiled.flops / 1e12:,.3f} TFLOPs a step and chip: {_ms(found.compute)} at its peak"
    if found.memory is not None:
        size = compiled.hbm_traffic / 1e9
        yield f"memory           {size:,.3f} GB that the program reads and writes in HBM: {_ms(found.memory)} at its bandwidth"
    if found.links is not None:
        size = sum(each.bytes for each in compiled.sent) / 1e9
        along = [f"{each.bytes / 1e9:,.3f} along {' × '.join(each.axes)}" for each in compiled.sent if each.bytes > 1e6]
        listed = f" ({', '.join(along)})" if along else ""
        yield f"links            {size:,.3f} GB sent to other chips{listed}: {_ms(found.links)} at their bandwidth"
    yield f"bound by {BOUND_BY[found.largest]}: a step of this program takes at least {_ms(found.seconds)}"


def describe_run(found: Run, price: float | None) -> str:
    """Return what the run takes at least, in words."""
    line = f"run      {found.steps:,} steps as long as this one take at least {_short(found.hours)} h"
    line += f", {_short(found.chip_hours)} chip-hours"
    return line if price is None else f"{line}, which cost {_short(found.cost)} at {price:g} each"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f} ms"


def _short(number: float) -> str:
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


def to_json(config: Config, topology: Topology, compiled: Compiled, price: float | None = None) -> dict:
    """Return the report as JSON, all sizes in bytes on a chip."""
    bound = bounds(topology, compiled.flops, compiled.hbm_traffic, compiled.sent)
    whole = run(bound, config.training.steps, compiled.chips, price) if compiled.fits else None
    found = dataclasses.asdict(compiled)
    memory = found.pop("memory") | {"total": compiled.memory.total, "usable": found.pop("usable")}
    found["collectives"] = [one._asdict() for one in compiled.collectives]
    found["sent"] = compiled.sent and [one._asdict() for one in compiled.sent]
    return {
        "config": config.name,
        "topology": topology.name,
        "chips": compiled.chips,
        "hbm": topology.chip.hbm,
        "memory": memory,
        "fits": compiled.fits,
        **found,
        "bounds": bound._asdict() | {"largest": bound.largest, "seconds": bound.seconds},
        "run": whole and whole._asdict() | {"price": price},
        "change": [] if compiled.fits else list(changes(config, compiled)),
    }


def changes(config: Config, compiled: Compiled) -> Iterator[str]:
    """Yield overrides that make the step smaller, with reasons; the first one costs least for what it saves."""
    memory, usable = compiled.memory, compiled.usable
    # Half a chip for the state leaves room for gradients, which are as large as the parameters, and activations.
    if memory.state > usable / 2:
        yield from _cut_state(config, compiled)
    if not config.model.remat:
        yield "--model.remat true: keeps a layer's input alone, and computes the layer again in the backward pass"
    if parts := _accumulation(config, compiled):
        yield f"--training.accumulation {parts}: the same batch in {parts} parts, one after the other"
    sharing = compiled.mesh["data"] * compiled.mesh["fsdp"]
    # The chips share each part of a batch evenly.
    unit = sharing * config.training.accumulation
    if (units := config.data.batch_size // unit) > 1:
        smaller = math.ceil(units / 2) * unit
        rows, fewer = config.data.batch_size // sharing, smaller // sharing
        yield f"--data.batch_size {smaller}: {rows} utterances a chip become {fewer}"
    yield "--data.max_seconds lower: attention grows with the square of the longest utterance"


def _cut_state(config: Config, compiled: Compiled) -> Iterator[str]:
    """Yield a larger `fsdp` that brings the state below half a chip, or the largest that the config allows."""
    now = compiled.mesh["fsdp"]
    devices = now * compiled.mesh["data"]
    best = None
    for fsdp in (n for n in range(now + 1, devices + 1) if devices % n == 0):
        changed = config.parallel.model_copy(update={"fsdp": fsdp, "data": devices // fsdp})
        if _allowed(config.model_copy(update={"parallel": changed}), compiled):
            best = fsdp
            if compiled.memory.state * now / fsdp <= compiled.usable / 2:
                break
    if best:
        # An axis that is -1 takes what the others leave; one that is given would clash.
        data = "" if config.parallel.data == -1 else f" --parallel.data {devices // best}"
        yield f"--parallel.fsdp {best}{data}: parameters, their average and the optimizer's state are cut over {best} chips"
    else:
        yield "a smaller --model.width, or a slice whose chips hold more: no axis cuts the state further"


def _accumulation(config: Config, compiled: Compiled) -> int | None:
    """Return the smallest number of parts such that one part fits into memory together with the state."""
    room = max(compiled.usable - (compiled.memory.total - compiled.memory.temporaries), 1)
    now = config.training.accumulation
    allowed = []
    for parts in range(now + 1, config.data.batch_size + 1):
        if config.data.batch_size % parts or config.data.text_batch_size % parts:
            continue
        changed = config.training.model_copy(update={"accumulation": parts})
        if _allowed(config.model_copy(update={"training": changed}), compiled):
            allowed.append(parts)
    enough = [parts for parts in allowed if compiled.memory.temporaries * now / parts <= room]
    return next(iter(enough), allowed[-1] if allowed else None)


def _allowed(config: Config, compiled: Compiled) -> bool:
    try:
        check_devices(config, compiled.chips)
    except UserError:
        return False
    return True

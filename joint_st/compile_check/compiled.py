"""The training step of a config, compiled for a slice that need not be attached, and what it needs on each chip."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from joint_st.compile_check.bounds import Sent, sent
from joint_st.compile_check.hbm import hbm_bytes
from joint_st.compile_check.shapes import heaviest
from joint_st.config import Config
from joint_st.config.devices import check_devices
from joint_st.data.batch import Shape
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.collectives import Collective, collectives, instructions
from joint_st.distributed.mesh import make_mesh
from joint_st.distributed.topology import GIB, Topology
from joint_st.models.functional import count_weights
from joint_st.training.compilation import batch_shapes
from joint_st.training.step import make_train_step, state_shapes


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of a step in bytes on each chip."""

    parameters: int
    average: int
    """The moving average of the parameters."""
    optimizer: int
    batch: int
    temporaries: int
    """Activations kept for the backward pass, gradients, and everything else that is alive when most memory is in
    use."""
    program: int
    """The compiled program itself, and the padding of arrays."""

    @property
    def state(self) -> int:
        """Bytes of the training state, which a checkpoint holds."""
        return self.parameters + self.average + self.optimizer

    @property
    def total(self) -> int:
        """Bytes of everything together."""
        return sum(dataclasses.asdict(self).values())


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiled step needs on each chip."""

    mesh: dict[str, int]
    """Devices along each axis; a device is a chip."""
    parameters: int
    """Number of the model's parameters."""
    memory: Memory
    usable: int
    """Bytes that a chip has for the step."""
    flops: int
    """Floating-point operations of the matrix products on each chip, where all chips share them evenly."""
    seconds: float
    """Seconds that the compiler took, tracing included."""
    collectives: tuple[Collective, ...] = ()
    """Collectives of the step; empty where it does not fit, since there is no program then."""
    hbm_traffic: int | None = None
    """Bytes that each chip reads and writes in its HBM (`joint_st.compile_check.hbm`); None where the step does not
    fit."""
    sent: tuple[Sent, ...] | None = None
    """What each chip sends to others of its slice; None where the step does not fit."""

    @property
    def chips(self) -> int:
        """Number of chips of all slices."""
        return math.prod(self.mesh.values())

    @property
    def fits(self) -> bool:
        """Whether the step fits the memory of each chip."""
        return self.memory.total <= self.usable


QUICK = {"exec_time_optimization_effort": -1.0}
"""Compiler options with which XLA searches less for the fastest program."""


def compile_step(config: Config, topology: Topology, sizes: SymbolSizes, quick: bool = False) -> Compiled:
    """Compile the heaviest step (`joint_st.compile_check.shapes`) for `topology`; with `quick`, to a slower program.

    Where the step does not fit and the compiler refuses it, the temporaries are what it would have needed
    in addition to the state. Raises `UserError` where the config does not divide over the chips.
    """
    devices = topology.devices(config.parallel.slices)
    check_devices(config, len(devices))
    mesh, buckets = make_mesh(config.parallel, devices), heaviest(config)
    began = time.perf_counter()
    with jax.set_mesh(mesh):
        state = state_shapes(config, sizes, mesh)
        batch = batch_shapes(buckets, Shape(0, 0 if "text" in buckets else None), mesh)
        traced = make_train_step(config, sizes, mesh).trace(state, batch)
        known = {
            "parameters": bytes_per_device(state.params),
            "average": bytes_per_device(state.average),
            "optimizer": bytes_per_device(state.optimizer),
            "batch": bytes_per_device(batch),
        }
        try:
            program = traced.lower().compile(QUICK if quick else None)
        except jax.errors.JaxRuntimeError as error:
            needed = memory_needed(str(error))
            if needed is None:
                raise
            memory, found = Memory(**known, temporaries=max(needed - sum(known.values()), 0), program=0), {}
        else:
            hlo = program.as_text()
            memory = with_program(known, program.memory_analysis())
            found = {
                "collectives": tuple(collectives(hlo)),
                "hbm_traffic": hbm_bytes(hlo),
                "sent": sent(instructions(hlo), coordinates(mesh), mesh.axis_names),
            }
    return Compiled(
        mesh=dict(mesh.shape),
        parameters=count_weights(state.params),
        memory=memory,
        usable=topology.chip.usable,
        flops=matrix_flops(traced.jaxpr) // len(devices),
        seconds=time.perf_counter() - began,
        **found,
    )


def coordinates(mesh: jax.sharding.Mesh) -> np.ndarray:
    """Return where in its slice each device of a mesh is: [*mesh, sides]."""
    return np.array([device.coords for device in mesh.devices.flat]).reshape(*mesh.devices.shape, -1)


def bytes_per_device(tree) -> int:
    """Return the bytes that each device holds of arrays, or of their shapes, given how they are sharded over a mesh."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def with_program(known: dict[str, int], analysis) -> Memory:
    """Return the memory according to a compiled program's own analysis; its arguments are `known` except for their
    padding.

    The state is donated: the new one is where the old one was.
    """
    padding = max(analysis.argument_size_in_bytes - sum(known.values()), 0)
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Memory(
        **known,
        temporaries=analysis.temp_size_in_bytes + new,
        program=analysis.generated_code_size_in_bytes + padding,
    )


UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": GIB, "T": GIB << 10}
SIZE = r"(\d+(?:\.\d+)?)([KMGT]?)"


def memory_needed(message: str) -> int | None:
    """Return the bytes that a chip would need according to the compiler's refusal, arguments of the step included.

    None where it refused for another reason.
    """
    # It speaks of "HLO temporaries" where it means everything (tests/compile_check/test_compiled.py).
    match = re.search(rf"Used {SIZE}B? of .*hbm|HLO temporaries \({SIZE}B?\)", message)
    if match is None:
        return None
    number, unit = (group for group in match.groups() if group is not None)
    return int(float(number) * UNITS[unit])


def matrix_flops(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Count two operations for each multiplication of the matrix products, over all devices; of branches, the
    costliest.

    XLA's own count takes the body of a loop once, however often it runs; layers are in loops. Recomputation in the
    backward pass counts. A `while` whose end is not known when it is traced counts once.
    """
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = equation.invars[0].aval.shape
            summed = math.prod(left[axis] for axis in contracted)
            total += 2 * summed * math.prod(equation.outvars[0].aval.shape)
            continue
        inner = [matrix_flops(each) for each in inner_jaxprs(parameters.values())]
        if name == "cond":
            total += max(inner)
        elif name == "scan":
            total += parameters["length"] * sum(inner)
        elif name == "pallas_call":
            # The kernel runs once for each point of its grid; what it leaves out there counts as if computed.
            total += math.prod(parameters["grid_mapping"].grid) * sum(inner)
        elif name == "shard_map":
            # Its shapes are those of one device; arrays are not cut along axes that it leaves alone.
            devices = math.prod(parameters["mesh"].shape[axis] for axis in parameters["newly_manual_axes"])
            total += devices * sum(inner)
        else:
            total += sum(inner)
    return total


def inner_jaxprs(values: Any) -> Iterator[Jaxpr | ClosedJaxpr]:
    """Yield the functions among an operation's parameters."""
    for value in values:
        if isinstance(value, (Jaxpr, ClosedJaxpr)):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from inner_jaxprs(value)

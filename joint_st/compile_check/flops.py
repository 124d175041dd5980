"""Floating-point operations of the matrix products of a traced function, those of loops as often as they run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def matrix_flops(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Two for each multiplication of the matrix products, over all devices; of branches, those of the costliest.

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
        elif name == "shard_map":
            # Its shapes are those of one device. What lies along axes that it leaves alone is not cut.
            devices = math.prod(parameters["mesh"].shape[axis] for axis in parameters["newly_manual_axes"])
            total += devices * sum(inner)
        else:
            total += sum(inner)
    return total


def inner_jaxprs(values: Any) -> Iterator[Jaxpr | ClosedJaxpr]:
    """The functions among an operation's parameters."""
    for value in values:
        if isinstance(value, (Jaxpr, ClosedJaxpr)):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from inner_jaxprs(value)

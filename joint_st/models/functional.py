"""A model's weights as a dictionary, in which form they are passed to jitted functions."""

from __future__ import annotations

from typing import TypeVar

import jax
from flax import nnx

from joint_st.distributed.sharding import Axes, gathered, gathers

Weights = dict
Model = TypeVar("Model", bound=nnx.Module)


def merge(structure: nnx.GraphDef[Model], weights: Weights) -> Model:
    """Return the model of a structure and weights; weights that are cut over devices are gathered where they are
    used."""
    model = nnx.merge(structure, weights)
    return nnx.merge(structure, gathered(weights, own_axes(model))) if gathers() else model


def without_gradient(model: Model) -> Model:
    """Return the model with weights that no gradient reaches."""
    structure, weights = nnx.split(model)
    return nnx.merge(structure, jax.lax.stop_gradient(weights))


def own_axes(model: nnx.Module) -> Axes:
    """Return the logical axes of weights that modules of a model declare by their method `logical_axes`."""
    return {
        ".".join((*map(str, path), name)): axes
        for path, module in nnx.iter_modules(model)
        if hasattr(module, "logical_axes")
        for name, axes in module.logical_axes().items()
    }


def count_weights(weights: Weights) -> int:
    """Return the number of parameters of the model."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights))

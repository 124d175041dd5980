"""A model's weights as a dictionary, which is how they travel through jitted functions."""

from __future__ import annotations

from typing import TypeVar

import jax
from flax import nnx

from joint_st.distributed.sharding import Axes, gathered, gathers

Weights = dict
Model = TypeVar("Model", bound=nnx.Module)


def merge(structure: nnx.GraphDef[Model], weights: Weights) -> Model:
    """The model of a structure and weights, those of which that are cut over devices gathered where they are used."""
    model = nnx.merge(structure, weights)
    return nnx.merge(structure, gathered(weights, own_axes(model))) if gathers() else model


def own_axes(model: nnx.Module) -> Axes:
    """The logical axes of the weights that modules of a model declare themselves, by their method `logical_axes`."""
    return {
        ".".join((*map(str, path), name)): axes
        for path, module in nnx.iter_modules(model)
        if hasattr(module, "logical_axes")
        for name, axes in module.logical_axes().items()
    }


def count_weights(weights: Weights) -> int:
    """Parameters of the model."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights))

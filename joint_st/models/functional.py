"""A model's weights as a dictionary, which is how they travel through jitted functions."""

from __future__ import annotations

from typing import TypeVar

import jax
from flax import nnx

from joint_st.distributed.sharding import gathered

Weights = dict
Model = TypeVar("Model", bound=nnx.Module)


def merge(structure: nnx.GraphDef[Model], weights: Weights) -> Model:
    """The model of a structure and weights, those of which that are cut over devices gathered where they are used."""
    return nnx.merge(structure, gathered(weights))


def count_weights(weights: Weights) -> int:
    """Parameters of the model."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights))

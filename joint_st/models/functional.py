"""The model as a structure and a dictionary of weights, which is how it travels through jitted functions.

`vocabulary` and `units` are the sizes of what the heads spell and of what the text encoder reads (0 for none):

    structure = model_structure(config, vocabulary, units)
    model = merge(structure, weights)          # inside a jitted function
"""

from __future__ import annotations

import jax
from flax import nnx

from joint_st.config import ModelConfig
from joint_st.distributed.sharding import gathered
from joint_st.models.joint import JointModel

Weights = dict


def init_weights(config: ModelConfig, vocabulary: int, units: int, seed: int | jax.Array) -> Weights:
    """Initial weights. Jit it with output shardings, so that none exists unsharded."""
    return nnx.to_pure_dict(nnx.state(JointModel(config, vocabulary, units, rngs=nnx.Rngs(jax.random.key(seed)))))


def weight_shapes(config: ModelConfig, vocabulary: int, units: int) -> Weights:
    """Shapes and types of the weights; nothing is computed."""
    return jax.eval_shape(lambda: init_weights(config, vocabulary, units, 0))


def model_structure(config: ModelConfig, vocabulary: int, units: int) -> nnx.GraphDef:
    """The model without its weights; nothing is computed."""
    return nnx.graphdef(nnx.eval_shape(lambda: JointModel(config, vocabulary, units, rngs=nnx.Rngs(0))))


def merge(structure: nnx.GraphDef, weights: Weights) -> JointModel:
    """The model of a structure and weights, those of which that are cut over devices gathered where they are used."""
    return nnx.merge(structure, gathered(weights))


def count_weights(weights: Weights) -> int:
    """Parameters of the model."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights))

"""The joint model, encoder and heads in one module; and the model as a structure and a dictionary of weights, which is
how it travels through jitted functions:

    structure = model_structure(config, sizes)
    model = merge(structure, weights)          # `joint_st.models.functional.merge`, inside a jitted function
"""

from __future__ import annotations

import jax
from flax import nnx

from joint_st.config import ConditioningConfig, Config, HeadsConfig, ModelConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.base import Head, head_kind
from joint_st.models.conditioning import conditionings
from joint_st.models.encoder import PASSES, JointEncoder
from joint_st.models.functional import Weights


class JointModel(JointEncoder):
    """The joint encoder with a head on each of its passes: `streaming_head` and `full_context_head`.

    `sizes` are those of the inventories; without text units there is no text encoder.
    """

    def __init__(
        self,
        config: ModelConfig,
        sizes: SymbolSizes,
        heads: HeadsConfig | None = None,
        conditioning: ConditioningConfig | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(config, rngs=rngs)
        heads = heads or HeadsConfig()
        for name in PASSES:
            kind = head_kind(getattr(heads, name))
            setattr(self, f"{name}_head", kind(heads, config.width, sizes.labels, rngs=rngs))
        if sizes.units:
            self.add_text(sizes.units, rngs=rngs)
        self.condition(conditionings(conditioning or ConditioningConfig()), sizes, rngs=rngs)

    def head(self, name: str) -> Head:
        """The head on the pass `name`, one of `PASSES`."""
        return getattr(self, f"{name}_head")


def head_kinds(config: HeadsConfig) -> dict[str, type[Head]]:
    """The class of the head on each pass."""
    return {name: head_kind(getattr(config, name)) for name in PASSES}


def init_weights(config: Config, sizes: SymbolSizes, seed: int | jax.Array) -> Weights:
    """Initial weights. Jit it with output shardings, so that none exists unsharded."""
    rngs = nnx.Rngs(jax.random.key(seed))
    model = JointModel(config.model, sizes, config.heads, config.conditioning, rngs=rngs)
    return nnx.to_pure_dict(nnx.state(model))


def weight_shapes(config: Config, sizes: SymbolSizes) -> Weights:
    """Shapes and types of the weights; nothing is computed."""
    return jax.eval_shape(lambda: init_weights(config, sizes, 0))


def model_structure(config: Config, sizes: SymbolSizes) -> nnx.GraphDef:
    """The model without its weights; nothing is computed."""
    parts = config.model, sizes, config.heads, config.conditioning
    return nnx.graphdef(nnx.eval_shape(lambda: JointModel(*parts, rngs=nnx.Rngs(0))))

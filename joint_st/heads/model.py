"""The joint model, encoder and heads in one module; and the model as a structure and a dictionary of weights, which is
how it is passed to jitted functions:

    structure = model_structure(config, sizes)
    model = merge(structure, weights)          # `joint_st.models.functional.merge`, inside a jitted function
"""

from __future__ import annotations

import functools

import jax
from flax import nnx

from joint_st.config import ConditioningConfig, Config, HeadsConfig, ModelConfig
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.sharding import Axes
from joint_st.heads.base import Head, head_kind, replace_rows
from joint_st.models.conditioning import conditionings
from joint_st.models.encoder import JointEncoder
from joint_st.models.functional import Weights, own_axes
from joint_st.passes import PASSES, STREAMING


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
        """Return the head on the pass `name`, one of `PASSES`."""
        return getattr(self, f"{name}_head")

    def init_stream(self, batch: int):
        """Return the state of the encoder and of the head before the first sample of `batch` streams."""
        return self.init_state(batch), self.head(STREAMING).init_state(batch)

    def stream_step(self, audio, lengths, state):
        """Return what the streaming head emits greedily in the next piece of audio, int32 [B, C, E] (see `Head.step`),
        the embeddings [B, C, D] that it read, their mask [B, C], and the next state. The arguments are those of
        `JointEncoder.step`.
        """
        of_encoder, of_head = state
        head = self.head(STREAMING)
        x, mask, of_encoder = self.step(audio, lengths, of_encoder)
        emitted, of_head = head.step(head.emissions(x), mask, of_head)
        return emitted, x, mask, (of_encoder, of_head)

    def replace_stream(self, rows, state, other):
        """Return the state of streams, with `rows` [B] (bool) taken from `other`."""
        return self.replace_state(rows, state[0], other[0]), replace_rows(rows, state[1], other[1])


def head_kinds(config: HeadsConfig) -> dict[str, type[Head]]:
    """Return the class of the head on each pass."""
    return {name: head_kind(getattr(config, name)) for name in PASSES}


def init_weights(config: Config, sizes: SymbolSizes, seed: int | jax.Array) -> Weights:
    """Make the initial weights. Jit it with output shardings, so that no weight ever exists unsharded."""
    rngs = nnx.Rngs(jax.random.key(seed))
    model = JointModel(config.model, sizes, config.heads, config.conditioning, rngs=rngs)
    return nnx.to_pure_dict(nnx.state(model))


def weight_shapes(config: Config, sizes: SymbolSizes) -> Weights:
    """Return shapes and types of the weights; nothing is computed."""
    return jax.eval_shape(lambda: init_weights(config, sizes, 0))


def weight_axes(config: Config, sizes: SymbolSizes) -> Axes:
    """Return the logical axes that heads, and other modules with an axis over symbols, declare for their weights."""
    return own_axes(_abstract(config.model, sizes, config.heads, config.conditioning))


def model_structure(config: Config, sizes: SymbolSizes) -> nnx.GraphDef:
    """Return the model without its weights; nothing is computed."""
    return nnx.graphdef(_abstract(config.model, sizes, config.heads, config.conditioning))


@functools.lru_cache(maxsize=8)
def _abstract(
    config: ModelConfig, sizes: SymbolSizes, heads: HeadsConfig, conditioning: ConditioningConfig
) -> JointModel:
    """Return the model with shapes instead of weights."""
    return nnx.eval_shape(lambda: JointModel(config, sizes, heads, conditioning, rngs=nnx.Rngs(0)))

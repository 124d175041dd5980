"""The model and the decoders as programs, one after the other, so that the time of each can be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from joint_st.config import Config
from joint_st.data.symbols import SymbolSizes
from joint_st.decoding.clock import Clock, Program
from joint_st.decoding.decoders import Decoder, Greedy
from joint_st.distributed.mesh import replicated
from joint_st.heads.model import model_structure
from joint_st.models.functional import Weights, merge

HEADS = ("streaming", "full_context")


class Forward:
    """What decoders find in audio: the streaming layers' part, the heads' after it, and that of each decoder.

    A decoder searches all heads at once, since most of its time goes into the steps from frame to frame: timed, that
    search counts whole for each head.
    """

    def __init__(
        self,
        config: Config,
        sizes: SymbolSizes,
        mesh: jax.sharding.Mesh,
        decoders: Sequence[Decoder] = (Greedy(),),
        heads: Sequence[str] = HEADS,
    ):
        structure = model_structure(config, sizes)

        def embed(weights, audio, lengths):
            x, mask = merge(structure, weights).first_pass(audio, lengths)
            return x, mask, mask.sum(axis=1, dtype=jnp.int32)

        def streaming(weights, x, mask):
            return merge(structure, weights).streaming_head(x)

        def full_context(weights, x, mask):
            model = merge(structure, weights)
            return model.full_context_head(model.second_pass(x, mask))

        def search(decoder):
            return Program(lambda tables, logits, mask: decoder.on_device(logits, mask, mesh, tables))

        self._embed = Program(embed)
        self._heads = {head: Program({"streaming": streaming, "full_context": full_context}[head]) for head in heads}
        self._searches = [(decoder.name, search(decoder)) for decoder in decoders]
        self._tables = jax.device_put(tuple(decoder.tables for decoder in decoders), replicated(mesh))

    def logits(self, weights: Weights, audio, lengths, clock: Clock | None = None) -> tuple[list, Any, Any]:
        """Logits [B, T, V] of each head, the mask [B, T] of valid frames, and how many there are, int32 [B].

        audio: int16 [B, S]. lengths: int32 [B], samples. Called under `jax.set_mesh`.
        """
        x, mask, frames = self._embed(weights, audio, lengths, clock=clock)
        found = [program(weights, x, mask, clock=clock, head=head) for head, program in self._heads.items()]
        return found, mask, frames

    def __call__(self, weights: Weights, audio, lengths, tables: tuple | None = None, clock: Clock | None = None):
        """For each decoder, what its `on_device` gives for each of the heads; and valid frames, int32 [B].

        With `tables`, by decoder, the decoders use others than their own, without another compilation.
        """
        logits, mask, frames = self.logits(weights, audio, lengths, clock)
        tables = self._tables if tables is None else tables
        found = tuple(
            search(of_decoder, logits, mask, clock=clock, decoder=name)
            for (name, search), of_decoder in zip(self._searches, tables, strict=True)
        )
        return found, frames

"""CTC: each frame emits a label or the blank (Graves et al., ICML 2006)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.distributed.mesh import over_batch
from joint_st.heads.base import Head, LabelSpans, register_head
from joint_st.models.projection import Projection
from joint_st.ops.ctc import ctc_loss, ctc_weights
from joint_st.ops.forced_alignment import forced_alignment
from joint_st.ops.masks import zero_padding
from joint_st.ops.prefix_beam import prefix_beam_search

BLANK = 0


@register_head("ctc")
class CtcHead(Head, Projection):
    """A CTC head. Its emissions are logits [B, T, V] in float32 of embeddings [B, T, D], with the blank at 0.

    Greedy decoding takes each frame's likeliest symbol; a label is emitted in the first frame of a run. The state is
    the symbol of the last frame, int32 [B].

    The times of labels are those of the likeliest path; for labels of greedy decoding, that is the path of greedy
    decoding. The probability of a label in one of its frames is its posterior there.
    """

    emissions_suffice = True

    def __init__(self, config, width, labels, *, rngs):
        Projection.__init__(self, width, labels, rngs=rngs)

    @staticmethod
    def weights(label_lengths, frames_needed, frames, valid):
        return ctc_weights(label_lengths, frames_needed, frames, valid)

    def loss(self, x, mask, labels, label_lengths, mesh):
        frames = mask.sum(axis=1, dtype=jnp.int32)
        loss, _ = over_batch(ctc_loss, mesh, differentiable=True)(self(x), frames, labels, label_lengths)
        return loss / jnp.maximum(label_lengths, 1)

    @classmethod
    def output_layers(cls):
        return ("linear.kernel",)

    def logical_axes(self):
        return Projection.logical_axes(self)

    def emissions(self, x):
        return self(x)

    def blank_scores(self, emissions):
        return jax.nn.log_softmax(emissions.astype(jnp.float32))[..., BLANK]

    def symbols(self, emissions):
        return jnp.argmax(emissions, axis=-1).astype(jnp.int32)

    def init_state(self, batch):
        return jnp.full(batch, BLANK, jnp.int32)

    def step(self, emissions, mask, state):
        emitted, last = collapse(self.symbols(emissions), mask, state)
        return emitted[..., None], last

    def beam(self, emissions, mask, scores, *, beam, candidates, best):
        frames = mask.sum(axis=1, dtype=jnp.int32)
        return prefix_beam_search(emissions, frames, scores, beam=beam, candidates=candidates, best=best, blank=BLANK)

    def alignment_logits(self, x):
        return self(x)

    def label_spans(self, emissions, mask, labels, label_lengths):
        frames = mask.sum(axis=1, dtype=jnp.int32)
        found = forced_alignment(emissions, frames, labels, label_lengths, BLANK)
        nothing = label_lengths == 0
        silent = zero_padding(self.blank_scores(emissions), mask).sum(axis=1)
        log_prob = jnp.where(nothing, silent, found.log_prob)
        return LabelSpans(found.starts, found.ends, found.scores, found.peaks, log_prob, found.feasible | nothing)


def collapse(symbols: jax.Array, mask: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the label that each frame emits, int32 [B, T], 0 for none, and the symbol of the last valid frame [B].

    symbols: symbol of each frame, int32 [B, T]. mask: valid frames [B, T], the first ones of each row. last: the symbol
    of the frame before, int32 [B]. The first frame of a run of a symbol emits the label; blanks emit none.
    """
    before = jnp.concatenate([last[:, None], symbols], axis=1)
    emitted = jnp.where(mask & (symbols != before[:, :-1]), symbols, BLANK)
    frames = mask.sum(axis=1, dtype=jnp.int32)
    return emitted, jnp.take_along_axis(before, frames[:, None], axis=1)[:, 0]

"""CTC: each frame emits a label or the blank (Graves et al., ICML 2006)."""

from __future__ import annotations

import jax.numpy as jnp

from joint_st.distributed.mesh import over_batch
from joint_st.heads.base import Head, register_head
from joint_st.models.projection import Projection
from joint_st.ops.ctc import ctc_loss


@register_head("ctc")
class CtcHead(Head, Projection):
    """Logits [B, T, V] in float32, blank at 0, of embeddings [B, T, D]."""

    def __init__(self, config, width, labels, *, rngs):
        Projection.__init__(self, width, labels, rngs=rngs)

    @staticmethod
    def weights(label_lengths, frames_needed, frames, valid):
        meaningful = valid & (label_lengths > 0) & (frames_needed <= frames)
        return jnp.where(meaningful, label_lengths, 0).astype(jnp.float32)

    def loss(self, x, mask, labels, label_lengths, mesh):
        return ctc_per_label(self(x), mask.sum(axis=1, dtype=jnp.int32), labels, label_lengths, mesh)

    @classmethod
    def output_layers(cls):
        return ("linear.kernel",)


def ctc_per_label(logits, frames, labels, lengths, mesh):
    """CTC in nats per label, float32 [B]; 0 where it is infeasible.

    logits: float [B, T, V]. frames, lengths: int32 [B]. labels: int32 [B, L].
    """
    loss, _ = over_batch(ctc_loss, mesh, differentiable=True)(logits, frames, labels, lengths)
    return loss / jnp.maximum(lengths, 1)

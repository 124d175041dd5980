"""A kind of head that keeps state over labels, registered from here alone: a one-label predictor.

Each frame emits one label or nothing (0), by the embedding of the frame plus that of the label emitted last:

    log p(symbol | frame, last) = log_softmax(W (x + embed(last)) + b)

The likelihood of labels is the sum over all ways to place them in different frames, in their order.
"""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import Field

from joint_st.config import Section, register
from joint_st.config.registry import unregister
from joint_st.distributed.mesh import over_batch
from joint_st.heads import Head, register_head
from joint_st.heads.base import HEADS
from joint_st.models.projection import Projection

IMPOSSIBLE = -1e30


class ToyHeadConfig(Section):
    """The choices of a toy head."""

    scale: float = Field(default=1.0, gt=0)
    """Factor of the embedding of the last label."""


@contextlib.contextmanager
def registered():
    """This kind and its section, registered as long as this lasts."""
    register("heads.toy")(ToyHeadConfig)
    register_head("toy")(ToyHead)
    try:
        yield
    finally:
        unregister("heads.toy")
        HEADS.forget("toy")


class ToyHead(Head):
    """Emissions are the frames' embeddings themselves; a state is the label emitted last, int32 [B]."""

    def __init__(self, config, width, labels, *, rngs):
        self.scale = config.toy.scale
        self.embed = nnx.Embed(labels, width, rngs=rngs)
        self.out = Projection(width, labels, rngs=rngs)

    @staticmethod
    def weights(label_lengths, frames_needed, frames, valid):
        return jnp.where(valid & (label_lengths > 0) & (label_lengths <= frames), label_lengths, 0).astype(jnp.float32)

    def log_probs(self, x, last):
        """Log probabilities [..., V] of what a frame `x` [..., D] emits after labels `last` [...]."""
        return jax.nn.log_softmax(self.out(x.astype(jnp.float32) + self.scale * self.embed(last)))

    def loss(self, x, mask, labels, label_lengths, mesh):
        def of_rows(head, x, mask, labels, lengths):
            before = jnp.pad(labels, ((0, 0), (1, 0)))
            after = jnp.pad(labels, ((0, 0), (0, 1)))

            def advance(score, frame):
                x, here = frame
                log_probs = head.log_probs(x[:, None], before)  # [B, L + 1, V]
                stay = score + log_probs[..., 0]
                move = score + jnp.take_along_axis(log_probs, after[..., None], axis=-1)[..., 0]
                moved = jnp.pad(move[:, :-1], ((0, 0), (1, 0)), constant_values=IMPOSSIBLE)
                return jnp.where(here[:, None], jnp.logaddexp(stay, moved), score), None

            start = jnp.full_like(before, IMPOSSIBLE, dtype=jnp.float32).at[:, 0].set(0.0)
            score, _ = jax.lax.scan(advance, start, (jnp.swapaxes(x, 0, 1), mask.T))
            found = -jnp.take_along_axis(score, lengths[:, None], axis=1)[:, 0]
            feasible = (lengths > 0) & (lengths <= mask.sum(axis=1))
            return jnp.where(feasible, found / jnp.maximum(lengths, 1), 0.0)

        # The weights go in as an argument: what such a function closes over has no place on the mesh.
        return over_batch(of_rows, mesh, differentiable=True, whole=1)(self, x, mask, labels, label_lengths)

    @classmethod
    def output_layers(cls):
        return ("out.linear.kernel",)

    def logical_axes(self):
        return {"embed.embedding": ("vocabulary", "embed")}

    def emissions(self, x):
        return {"frames": x}

    def blank_scores(self, emissions):
        x = emissions["frames"]
        return self.log_probs(x, jnp.zeros(x.shape[:2], jnp.int32))[..., 0]

    def init_state(self, batch):
        return jnp.zeros(batch, jnp.int32)

    def step(self, emissions, mask, state):
        def advance(last, frame):
            x, here = frame
            label = jnp.where(here, jnp.argmax(self.log_probs(x, last), axis=-1), 0).astype(jnp.int32)
            return jnp.where(label > 0, label, last), label

        last, labels = jax.lax.scan(advance, state, (jnp.swapaxes(emissions["frames"], 0, 1), mask.T))
        return labels.T[..., None], last


def reference(head: ToyHead, x: np.ndarray) -> list[int]:
    """Return the labels of one utterance [T, D], greedily, in NumPy."""
    embed, kernel, bias = (
        np.asarray(p[...], np.float32) for p in (head.embed.embedding, head.out.linear.kernel, head.out.linear.bias)
    )
    labels, last = [], 0
    for frame in x:
        symbol = int(np.argmax((frame + head.scale * embed[last]) @ kernel + bias))
        if symbol:
            labels.append(symbol)
            last = symbol
    return labels

"""Connectionist temporal classification (Graves et al., ICML 2006), with its gradient in closed form.

The lattice of an utterance with `U` labels has `U + 1` blank states and `U` label states. They are kept in
two arrays of `U + 1` columns:

- column `n` of the blank states: `n` labels are spelled, and the frame is a blank;
- column `n` of the label states: the frame spells label `n`, counted from 0. Column `U` is never reached.

With `s = blank + label moved right by a column`, one frame takes their probabilities to

    blank' = s * prob(blank)
    label' = (label + s) * prob(label n),   with `blank` for `s` where label n repeats label n - 1

and back in time likewise. The gradient for the logits of a frame is `softmax(logits)` minus the posterior
probability of each symbol (equation 16 of the paper).

These probabilities are far below the smallest float32, so they have exponents of their own (`joint_st.ops.wide`).

Symbols are picked, and their posteriors added up, by products with one-hot vectors: a TPU is slow at gathers and
scatter-adds, and a GPU adds in an order that changes from run to run. On a CPU a gather takes a small part of the time
of a product if there are many symbols; a scatter-add does not.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from joint_st.ops import wide
from joint_st.ops.lattice import IMPOSSIBLE, move_left, move_right
from joint_st.ops.wide import Wide

_Array = TypeVar("_Array", jax.Array, np.ndarray)

GATHER_ABOVE = 64
"""Number of symbols from which a CPU gathers; with fewer a product is as fast."""


def ctc_loss(
    logits: jax.Array,
    logit_lengths: jax.Array,
    labels: jax.Array,
    label_lengths: jax.Array,
    blank: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Return the negative log likelihood of each utterance's labels, and whether its frames can spell them at all.

    logits: float [B, T, V] of any precision, not normalised. logit_lengths: int [B], frames, at most T.
    labels: int [B, U], never the blank. label_lengths: int [B], at most U. blank: id of the blank, static.

    Returns the loss in nats, float32 [B], never below 0, and `feasible`, bool [B]. An utterance that is not
    feasible (fewer frames than `frames_needed`, no frames, or no labels) has loss 0 and gradient 0.
    What stands in the padding of logits and labels, NaN included, changes no loss and no gradient, and the
    gradient there is exactly 0. NaN or +inf in a frame of a feasible utterance makes its loss NaN.
    """
    feasible = (label_lengths > 0) & (frames_needed(labels, label_lengths) <= logit_lengths)
    loss = _loss(logits, jnp.where(feasible, logit_lengths, 0), labels, label_lengths, blank)
    return jnp.where(feasible, loss, 0.0), feasible


def frames_needed(labels: _Array, label_lengths: _Array | None = None) -> _Array:
    """Return the fewest frames that can spell the labels: one for each, and a blank between two equal ones.

    labels: int [..., U], label_lengths: int [...], all U by default -> int32 [...]. NumPy arrays give a NumPy array
    and compile nothing; arrays of JAX give one of JAX.
    """
    xp = np if isinstance(labels, np.ndarray) else jnp
    repeats = labels[..., 1:] == labels[..., :-1]
    if label_lengths is None:
        return (labels.shape[-1] + repeats.sum(axis=-1)).astype(xp.int32)
    in_label = xp.arange(1, labels.shape[-1]) < label_lengths[..., None]
    return (label_lengths + (repeats & in_label).sum(axis=-1)).astype(xp.int32)


def ctc_weights(label_lengths: jax.Array, needed: jax.Array, frames: jax.Array, valid: jax.Array) -> jax.Array:
    """Return the weight of each utterance's loss, float32 [B]: its number of labels, or 0 where its frames cannot emit
    them.

    label_lengths, needed (see `frames_needed`), frames: int32 [B]. valid: bool [B].
    """
    meaningful = valid & (label_lengths > 0) & (needed <= frames)
    return jnp.where(meaningful, label_lengths, 0).astype(jnp.float32)


class _Frames(NamedTuple):
    """What the recursions read of each frame; times are the first axes, as scans need them: blocks, and frames in a
    block."""

    blank_log_probs: jax.Array
    """Log probabilities of the blank, [N, BLOCK, B]."""
    label_log_probs: jax.Array
    """Log probabilities of the next label, [N, BLOCK, B, U + 1]; impossible from the utterance's own length on."""
    in_audio: jax.Array
    """Valid frames, bool [N, BLOCK, B]."""


class _Scores(NamedTuple):
    """Probabilities of the states, [B, U + 1] each."""

    blank: Wide
    label: Wide


class _Probs(NamedTuple):
    """What the frames give, as probabilities."""

    blank: Wide
    """[..., B, 1]."""
    label: Wide
    """[..., B, U + 1]."""
    in_audio: jax.Array
    """Bool [..., B, 1]."""


class _Lattice(NamedTuple):
    """The inputs of the recursions for a batch, and their steps."""

    frames: _Frames
    repeats: jax.Array
    """Whether the label equals the one before it, bool [B, U + 1]."""
    blank_end: jax.Array
    """Whether an alignment may end in the blank state, bool [B, U + 1]."""
    label_end: jax.Array
    """Whether an alignment may end in the label state, bool [B, U + 1]."""

    @property
    def ends(self) -> _Scores:
        """The backward scores after the last frame."""
        return _Scores(wide.ones_where(self.blank_end), wide.ones_where(self.label_end))

    def advance(self, scores: _Scores, probs: _Probs) -> tuple[_Scores, Wide]:
        """Return the scores after one more frame, and those of the label states once more."""
        entering = wide.add(scores.blank, wide.moved(move_right, scores.label))
        changed = wide.where(self.repeats, scores.blank, entering)
        label = wide.add(scores.label, changed)
        after = _Scores(wide.multiply(entering, probs.blank), wide.multiply(label, probs.label))
        after = _where(probs.in_audio, after, scores)
        return after, after.label

    def retreat(self, scores: _Scores, probs: _Probs) -> _Scores:
        """Return the backward scores before a frame."""
        blank, label = wide.multiply(scores.blank, probs.blank), wide.multiply(scores.label, probs.label)
        leaving = wide.add(blank, label)
        next_repeats = move_left(self.repeats, False)
        changed = wide.where(next_repeats, wide.moved(move_left, blank), wide.moved(move_left, leaving))
        return _where(probs.in_audio, _Scores(leaving, wide.add(label, changed)), scores)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(logits, logit_lengths, labels, label_lengths, blank):
    """Return the loss, float32 [B], finite where it has a meaning. An utterance of 0 frames has gradient 0."""
    lattice, log_totals, _ = _lattice(logits, logit_lengths, labels, label_lengths, blank)
    likelihood, _ = _forward(lattice)
    return _negative_log(likelihood, log_totals)


def _loss_forward(logits, logit_lengths, labels, label_lengths, blank):
    lattice, log_totals, ids = _lattice(logits, logit_lengths, labels, label_lengths, blank)
    likelihood, starts = _forward(lattice)
    return _negative_log(likelihood, log_totals), (logits, ids, log_totals, lattice, likelihood, starts)


def _loss_backward(blank, residuals, loss_gradient):
    logits, ids, log_totals, lattice, likelihood, starts = residuals
    frames = logits.shape[1]
    posteriors = wide.joined(_label_posteriors(lattice, likelihood, starts), frames)
    in_audio = wide.joined(lattice.frames.in_audio, frames)

    # The blank's posterior is 1 less those of the labels: hence its -1, and the 1 below. (Both are chosen by comparison,
    # since an update of one column would be a pass over the whole array of its own.)
    is_blank = jnp.arange(logits.shape[2]) == blank
    symbols = jnp.where(is_blank & (ids >= 0)[..., None], -1.0, jax.nn.one_hot(ids, logits.shape[2]))
    gradient = jnp.exp(logits.astype(jnp.float32) - log_totals[..., None])
    gradient -= jnp.einsum("tbu,buv->btv", posteriors, symbols, precision="highest")
    gradient -= is_blank
    gradient = jnp.where(in_audio.T[..., None], gradient * loss_gradient[:, None, None], 0.0)
    return gradient.astype(logits.dtype), None, None, None


_loss.defvjp(_loss_forward, _loss_backward)


def _padded(labels, label_lengths):
    """Return the labels with one more column, int [B, U + 1], and -1 (whose one-hot vector is 0) in the padding."""
    labels = jnp.pad(labels, ((0, 0), (0, 1)))
    return jnp.where(jnp.arange(labels.shape[1]) < label_lengths[:, None], labels, -1)


def _lattice(logits, logit_lengths, labels, label_lengths, blank) -> tuple[_Lattice, jax.Array, jax.Array]:
    """Return the lattice, the logarithm of the sum of each frame's exponentiated logits [B, T], and the padded labels."""
    ids = _padded(labels, label_lengths)
    in_audio = jnp.arange(logits.shape[1]) < logit_lengths[:, None]
    logits = jnp.where(in_audio[..., None], logits, 0).astype(jnp.float32)
    # A logit of -inf is legal (a symbol ruled out) and would turn into NaN in the product below.
    logits = jnp.maximum(logits, IMPOSSIBLE)
    log_totals = jax.nn.logsumexp(logits, axis=2)

    label_log_probs = jnp.where(ids >= 0, _picked(logits, ids) - log_totals.T[..., None], IMPOSSIBLE)
    repeats = jnp.pad(ids[:, 1:] == ids[:, :-1], ((0, 0), (1, 0))) & (ids >= 0)

    frames = _Frames((logits[:, :, blank] - log_totals).T, label_log_probs, in_audio.T)
    column = jnp.arange(ids.shape[1])
    ends = column == label_lengths[:, None], column == label_lengths[:, None] - 1
    return _Lattice(_Frames(*map(wide.in_blocks, frames)), repeats, *ends), log_totals, ids


def _picked(logits, ids):
    """Return the logits of the symbols `ids` [B, U], float32 [T, B, U]; anything where an id is -1."""

    def by_product(logits, ids):
        symbols = jax.nn.one_hot(ids, logits.shape[2])
        return jnp.einsum("btv,buv->tbu", logits, symbols, precision="highest")

    def by_gather(logits, ids):
        logits, ids = jnp.swapaxes(logits, 0, 1), jnp.maximum(ids, 0)[None]
        return jnp.take_along_axis(logits, ids, axis=2, mode="promise_in_bounds")

    if logits.shape[2] < GATHER_ABOVE:
        return by_product(logits, ids)
    return lax.platform_dependent(logits, ids, cpu=by_gather, default=by_product)


def _probs(frames: _Frames) -> _Probs:
    """Return the probabilities that frames give to the states."""
    blank, label = wide.from_log(frames.blank_log_probs[..., None]), wide.from_log(frames.label_log_probs)
    return _Probs(blank, label, frames.in_audio[..., None])


def _forward(lattice: _Lattice) -> tuple[Wide, _Scores]:
    """Return the likelihood of the labels [B, 1], and the scores before each block of frames, [N, B, U + 1]."""
    # Before the first frame no label is spelled, as if after a blank. (Made from the batch's own arrays, so
    # that inside `jax.shard_map` it varies over the devices as they do.)
    nowhere = lattice.label_end & ~lattice.label_end
    start = _Scores(wide.ones_where(nowhere.at[:, 0].set(True)), wide.ones_where(nowhere))
    scores, starts = wide.run_forward(lattice.advance, _probs, start, lattice.frames)
    ends = (wide.multiply(one, end) for one, end in zip(scores, lattice.ends))
    return wide.total(wide.add(*ends)), starts


def _label_posteriors(lattice: _Lattice, likelihood: Wide, starts: _Scores) -> jax.Array:
    """Return the probabilities of the label states given the labels, float32 [N, BLOCK, B, U + 1]."""

    def retreat(scores, frame):
        probs, before = frame
        return lattice.retreat(scores, probs), wide.share(wide.multiply(before, scores.label), likelihood)

    return wide.run_backward(lattice.advance, retreat, _probs, starts, lattice.ends, lattice.frames)


def _negative_log(likelihood: Wide, log_totals) -> jax.Array:
    """Return the loss [B]; NaN where a frame has a logit that is NaN or infinite, which no exponent shows."""
    # Rounding can give an utterance a probability slightly above 1.
    loss = jnp.maximum(-wide.to_log(likelihood)[:, 0], 0.0)
    return jnp.where(jnp.isfinite(log_totals).all(axis=1), loss, jnp.nan)


def _where(condition, a: _Scores, b: _Scores) -> _Scores:
    """Return utterances of `a` where the condition [B, 1] holds, and of `b` elsewhere."""
    return _Scores(*(wide.where(condition, x, y) for x, y in zip(a, b)))

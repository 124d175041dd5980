"""Connectionist temporal classification (Graves et al., ICML 2006), with its gradient in closed form.

The lattice of an utterance with `U` labels has `U + 1` blank states and `U` label states. They are kept in
two arrays of `U + 1` columns:

- column `n` of the blank states: `n` labels are spelled, and the frame is a blank;
- column `n` of the label states: the frame spells label `n`, counted from 0. Column `U` is never reached.

With `s = logaddexp(blank, label moved right by a column)`, one frame takes them to

    blank' = s + log_prob(blank)
    label' = logaddexp(label, s) + log_prob(label n),   with `blank` for `s` where label n repeats label n - 1

and back in time likewise. The gradient for the logits of a frame is `softmax(logits)` minus the posterior
probability of each symbol (equation 16 of the paper).

Everything runs in float32. In each frame the scores are shifted by what was their maximum before, and the shifts are
summed separately, so that the size of the scores, and their rounding errors, do not grow with time. The posteriors of a frame
are normalised among themselves, which removes what rounding its states have in common.

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

from joint_st.ops.lattice import IMPOSSIBLE, logaddexp, move_left, move_right, row_max

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
    gradient there is exactly 0. NaN in a frame of a feasible utterance makes its loss NaN.
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


class _Lattice(NamedTuple):
    """The inputs of the recursions for a batch. Time is the first axis, as scans need it."""

    blank_log_probs: jax.Array
    """Log probabilities of the blank, [T, B]."""
    label_log_probs: jax.Array
    """Log probabilities of the next label, [T, B, U + 1]; impossible from the utterance's own length on."""
    in_audio: jax.Array
    """Valid frames, bool [T, B]."""
    repeats: jax.Array
    """Whether the label equals the one before it, bool [B, U + 1]."""
    blank_end: jax.Array
    """0 at the blank state in which an alignment may end, impossible elsewhere, [B, U + 1]."""
    label_end: jax.Array
    """0 at the label state in which an alignment may end, impossible elsewhere, [B, U + 1]."""


class _Scores(NamedTuple):
    """Log scores of the states, up to a constant for each utterance."""

    blank: jax.Array
    """Log scores of the blank states, [B, U + 1]."""
    label: jax.Array
    """Log scores of the label states, [B, U + 1]."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(logits, logit_lengths, labels, label_lengths, blank):
    """Return the loss, float32 [B], finite where it has a meaning. An utterance of 0 frames has gradient 0."""
    ids = _padded(labels, label_lengths)
    lattice, _ = _lattice(logits, logit_lengths, ids, label_lengths, blank)
    loss, _ = _forward(lattice, keep=False)
    return loss


def _loss_forward(logits, logit_lengths, labels, label_lengths, blank):
    ids = _padded(labels, label_lengths)
    lattice, log_totals = _lattice(logits, logit_lengths, ids, label_lengths, blank)
    loss, prefixes = _forward(lattice, keep=True)
    return loss, (logits, ids, log_totals, lattice, prefixes)


def _loss_backward(blank, residuals, loss_gradient):
    logits, ids, log_totals, lattice, prefixes = residuals
    suffixes = _backward(lattice)

    blank_states = prefixes.blank + suffixes.blank
    label_states = prefixes.label + suffixes.label
    highest = jnp.maximum(blank_states.max(axis=2), label_states.max(axis=2))[..., None]
    blank_posteriors = jnp.exp(blank_states - highest).sum(axis=2)
    label_posteriors = jnp.exp(label_states - highest)
    total = blank_posteriors + label_posteriors.sum(axis=2)

    gradient = jnp.exp(logits.astype(jnp.float32) - log_totals[..., None])
    symbols = jax.nn.one_hot(ids, logits.shape[2])
    gradient -= jnp.einsum("tbu,buv->btv", label_posteriors / total[..., None], symbols, precision="highest")
    gradient = gradient.at[:, :, blank].add(-(blank_posteriors / total).T)
    gradient = jnp.where(lattice.in_audio.T[..., None], gradient * loss_gradient[:, None, None], 0.0)
    return gradient.astype(logits.dtype), None, None, None


_loss.defvjp(_loss_forward, _loss_backward)


def _padded(labels, label_lengths):
    """Return the labels with one more column, int [B, U + 1], and -1 (whose one-hot vector is 0) in the padding."""
    labels = jnp.pad(labels, ((0, 0), (0, 1)))
    return jnp.where(jnp.arange(labels.shape[1]) < label_lengths[:, None], labels, -1)


def _lattice(logits, logit_lengths, ids, label_lengths, blank) -> tuple[_Lattice, jax.Array]:
    """Return the lattice, and the logarithm of the sum of each frame's exponentiated logits, [B, T]."""
    in_audio = jnp.arange(logits.shape[1]) < logit_lengths[:, None]
    logits = jnp.where(in_audio[..., None], logits, 0).astype(jnp.float32)
    # A logit of -inf is legal (a symbol ruled out) and would turn into NaN in the product below.
    logits = jnp.maximum(logits, IMPOSSIBLE)
    log_totals = jax.nn.logsumexp(logits, axis=2)

    label_log_probs = jnp.where(ids >= 0, _picked(logits, ids) - log_totals.T[..., None], IMPOSSIBLE)
    repeats = jnp.pad(ids[:, 1:] == ids[:, :-1], ((0, 0), (1, 0))) & (ids >= 0)

    column = jnp.arange(ids.shape[1])
    lattice = _Lattice(
        blank_log_probs=(logits[:, :, blank] - log_totals).T,
        label_log_probs=label_log_probs,
        in_audio=in_audio.T,
        repeats=repeats,
        blank_end=jnp.where(column == label_lengths[:, None], 0.0, IMPOSSIBLE),
        label_end=jnp.where(column == label_lengths[:, None] - 1, 0.0, IMPOSSIBLE),
    )
    return lattice, log_totals


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


def _forward(lattice: _Lattice, keep: bool) -> tuple[jax.Array, _Scores | None]:
    """Return the loss [B] and, if kept, the forward scores of each state, [T, B, U + 1]."""

    def advance(scores, frame):
        blank_log_prob, label_log_prob, in_audio = frame
        highest = _highest(scores)
        entering = logaddexp(scores.blank, move_right(scores.label, IMPOSSIBLE))
        changed = jnp.where(lattice.repeats, scores.blank, entering)
        blank = entering + (blank_log_prob[:, None] - highest)
        label = logaddexp(scores.label, changed) + (label_log_prob - highest)
        scores = _select(in_audio, _Scores(blank, label), scores)
        return scores, (jnp.where(in_audio, highest[:, 0], 0.0), scores if keep else None)

    # Before the first frame no label is spelled, as if after a blank. (Made from the batch's own arrays, so
    # that inside `jax.shard_map` it varies over the devices as they do.)
    nowhere = jnp.full_like(lattice.blank_end, IMPOSSIBLE)
    start = _Scores(nowhere.at[:, 0].set(0.0), nowhere)
    scores, (shifts, prefixes) = lax.scan(advance, start, _frames(lattice))
    ends = jnp.concatenate([scores.blank + lattice.blank_end, scores.label + lattice.label_end], axis=1)
    log_likelihood = jax.nn.logsumexp(ends, axis=1) + shifts.sum(axis=0)
    # Rounding can give an utterance a probability slightly above 1.
    return jnp.maximum(-log_likelihood, 0.0), prefixes


def _backward(lattice: _Lattice) -> _Scores:
    """Return the backward scores of each state after each frame, [T, B, U + 1]."""
    next_repeats = move_left(lattice.repeats, False)

    def retreat(scores, frame):
        blank_log_prob, label_log_prob, in_audio = frame
        highest = _highest(scores)
        blank = scores.blank + blank_log_prob[:, None]
        label = scores.label + label_log_prob
        leaving = logaddexp(blank, label)
        changed = jnp.where(next_repeats, move_left(blank, IMPOSSIBLE), move_left(leaving, IMPOSSIBLE))
        before = _Scores(leaving - highest, logaddexp(label, changed) - highest)
        return _select(in_audio, before, scores), scores

    end = _Scores(lattice.blank_end, lattice.label_end)
    _, suffixes = lax.scan(retreat, end, _frames(lattice), reverse=True)
    return suffixes


def _frames(lattice):
    return lattice.blank_log_probs, lattice.label_log_probs, lattice.in_audio


def _highest(scores: _Scores) -> jax.Array:
    """Return the highest score of each utterance, [B, 1]."""
    return row_max(jnp.maximum(scores.blank, scores.label))


def _select(condition, a: _Scores, b: _Scores) -> _Scores:
    """Return utterances [B] of `a` where the condition holds, and of `b` elsewhere."""
    return _Scores(*(jnp.where(condition[:, None], x, y) for x, y in zip(a, b)))

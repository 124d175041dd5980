"""Forced alignment: the likeliest path of CTC (Graves et al., ICML 2006) that spells given labels, by Viterbi.

The lattice is that of `joint_st.ops.ctc`, with a maximum instead of each sum: for `U` labels, column `n` of the blank
states has spelled `n` labels, column `n` of the label states spells label `n`. Three bits tell how each of the two
states of a column was reached; nothing else is stored for a frame:

- `FROM_LABEL`: of the states that enter the column, label `n - 1` scores higher than blank `n`;
- `ENTERED`: label `n` begins here, and does not go on from the frame before;
- `REPEATS`: label `n` is that before it again, so that only blank `n` leads to it.

The label probabilities of a frame are gathered when the frame is processed, so that an utterance of `T` frames needs
one byte for each of its `T (U + 1)` columns: 15 minutes and 10,000 labels are aligned in 230 MB.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.ops.ctc import frames_needed
from joint_st.ops.lattice import IMPOSSIBLE, move_right, row_max

FROM_LABEL = 1
ENTERED = 2
REPEATS = 4
RESCALED_EVERY = 16
"""Frames after which the highest score becomes 0 again, so that the rounding of differences does not grow with time.
(To look for the highest in every frame took a third of the whole time.)"""


class ForcedAlignment(NamedTuple):
    """The likeliest path of each utterance; -1 and zeros for an utterance whose frames cannot spell its labels."""

    label: jax.Array
    """Which of the labels each frame spells, counted from 0, int32 [B, T]; -1 for a blank and in the padding."""
    starts: jax.Array
    """First frame of each label, int32 [B, U]; 0 in the padding."""
    ends: jax.Array
    """First frame after each label, int32 [B, U]; 0 in the padding."""
    scores: jax.Array
    """Mean posterior probability of each label over its frames, float32 [B, U]; 0 in the padding."""
    peaks: jax.Array
    """Largest posterior probability of each label in one of its frames, float32 [B, U]; 0 in the padding."""
    log_prob: jax.Array
    """Log probability of the path, float32 [B]."""
    feasible: jax.Array
    """Whether the frames can spell the labels at all, bool [B]."""


def forced_alignment(
    logits: jax.Array,
    logit_lengths: jax.Array,
    labels: jax.Array,
    label_lengths: jax.Array,
    blank: int = 0,
) -> ForcedAlignment:
    """Return the likeliest path through each utterance's frames that spells its labels.

    logits: [B, T, V] of any precision; log probabilities are logits too. logit_lengths: int [B], frames, at most T.
    labels: int [B, U], never the blank. label_lengths: int [B], at most U. blank: id of the blank, static.

    An utterance is not feasible if it has fewer frames than `frames_needed`, no frames or no labels, if all of its
    paths have probability 0, or if its frames contain NaN. What stands in the padding, NaN included, changes nothing.
    """
    if not logits.shape[1]:  # the scans below need a frame
        padded = jnp.pad(logits, ((0, 0), (0, 1), (0, 0)))
        found = forced_alignment(padded, logit_lengths, labels, label_lengths, blank)
        return found._replace(label=found.label[:, :0])
    fits = (label_lengths > 0) & (frames_needed(labels, label_lengths) <= logit_lengths)
    frames = jnp.where(fits, logit_lengths, 0)
    width = labels.shape[1]
    # One more column, for the blank after the last label.
    inside = jnp.arange(width + 1) < label_lengths[:, None]
    ids = jnp.where(inside, jnp.pad(labels, ((0, 0), (0, 1))), 0)
    repeats = jnp.pad(ids[:, 1:] == ids[:, :-1], ((0, 0), (1, 0)))
    repeated = REPEATS * repeats.astype(jnp.uint8)

    in_audio = jnp.arange(logits.shape[1]) < frames[:, None]
    # A logit of -inf is legal: a symbol ruled out.
    log_totals = jax.nn.logsumexp(jnp.maximum(logits.astype(jnp.float32), IMPOSSIBLE), axis=2)

    def log_probs(t):
        """Return the log probability of the blank [B, 1] and of each label [B, U + 1] in frame `t`."""
        frame = lax.dynamic_index_in_dim(logits, t, axis=1, keepdims=False)
        total = lax.dynamic_slice_in_dim(log_totals, t, 1, axis=1)
        # (Without `mode`, each symbol is compared with the vocabulary's size, which takes a CPU a tenth of the time.)
        label = jnp.take_along_axis(frame, ids, axis=1, mode="clip").astype(jnp.float32)
        label = jnp.where(inside, jnp.maximum(label, IMPOSSIBLE) - total, IMPOSSIBLE)
        return jnp.maximum(frame[:, blank, None].astype(jnp.float32), IMPOSSIBLE) - total, label

    def advance(state, t):
        before_blank, before_label = state
        blank_log_prob, label_log_prob = log_probs(t)
        from_label = move_right(before_label, IMPOSSIBLE) > before_blank
        entering = jnp.maximum(move_right(before_label, IMPOSSIBLE), before_blank)
        changed = jnp.where(repeats, before_blank, entering)
        entered = changed > before_label
        after_blank = entering + blank_log_prob
        after_label = jnp.maximum(changed, before_label) + label_log_prob
        heard = t < frames[:, None]
        after = after_blank, after_label
        code = FROM_LABEL * from_label.astype(jnp.uint8) + ENTERED * entered.astype(jnp.uint8) + repeated
        return tuple(jnp.where(heard, new, old) for new, old in zip(after, state)), code

    def advance_frames(state, times):
        (blank, label), log_prob = state
        highest = jnp.maximum(row_max(blank), row_max(label))
        state, codes = lax.scan(advance, (blank - highest, label - highest), times)
        return (state, log_prob + highest), codes

    # (Made from the batch's own arrays, so that inside `jax.shard_map` they vary over the devices as it does.)
    nowhere = jnp.full_like(inside, IMPOSSIBLE, dtype=jnp.float32)
    start = (nowhere.at[:, 0].set(0.0), nowhere), jnp.zeros_like(nowhere[:, :1])
    # Times past the last frame change nothing: no utterance is heard then.
    times = jnp.arange(-(-logits.shape[1] // RESCALED_EVERY) * RESCALED_EVERY)
    ((last_blank, last_label), log_prob), codes = lax.scan(advance_frames, start, times.reshape(-1, RESCALED_EVERY))
    codes = codes.reshape(len(times), *codes.shape[2:])

    column = label_lengths[:, None].astype(jnp.int32)
    last_blank = jnp.take_along_axis(last_blank, column, axis=1)
    last_label = jnp.take_along_axis(last_label, jnp.maximum(column - 1, 0), axis=1)
    ends_in_label = last_label > last_blank
    log_prob = (log_prob + jnp.maximum(last_label, last_blank))[:, 0]
    feasible = fits & (log_prob > IMPOSSIBLE / 2)

    # State `2 n` is blank `n`, state `2 n + 1` label `n`.
    def retreat(state, frame):
        codes, t = frame
        column, in_label = state >> 1, state & 1
        code = jnp.take_along_axis(codes, column, axis=1)
        stays = (in_label > 0) & (code & ENTERED == 0)
        # Between two equal labels there is a blank.
        from_label = (code & FROM_LABEL > 0) & ((in_label == 0) | (code & REPEATS == 0))
        before = jnp.where(stays, state, 2 * column - from_label)
        return jnp.where(t < frames[:, None], before, state), state[:, 0]

    finish = 2 * column - ends_in_label
    _, states = lax.scan(retreat, finish, (codes, times), reverse=True)
    states = states[: logits.shape[1]].T
    path = jnp.where((states & 1 == 1) & in_audio & feasible[:, None], states >> 1, -1)

    symbol = jnp.take_along_axis(ids, jnp.maximum(path, 0), axis=1)
    posterior = jnp.take_along_axis(logits, symbol[..., None], axis=2)[..., 0].astype(jnp.float32) - log_totals
    posterior = jnp.where(in_audio & (path >= 0), jnp.exp(posterior), 0.0)
    return ForcedAlignment(path, *_spans(path, posterior, width), jnp.where(feasible, log_prob, 0.0), feasible)


def _spans(path, posterior, labels: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the first frame, the frame after the last, and the mean and largest posterior of each label, [B, U]
    each."""
    batch, frames = path.shape
    row = jnp.arange(batch)[:, None]
    # Blanks are counted in a column of their own, which is cut off.
    column = jnp.where(path >= 0, path, labels)
    time = jnp.broadcast_to(jnp.arange(frames, dtype=jnp.int32), path.shape)
    none = jnp.zeros((batch, labels + 1), jnp.int32)
    starts = jnp.full_like(none, frames).at[row, column].min(time)
    ends = none.at[row, column].max(time + 1)
    total = none.astype(jnp.float32).at[row, column].add(posterior)
    spelled = ends[:, :labels] > 0
    # A label's frames are consecutive.
    starts = jnp.where(spelled, starts[:, :labels], 0)
    ends = ends[:, :labels]
    peaks = none.astype(jnp.float32).at[row, column].max(posterior)[:, :labels]
    return starts, ends, total[:, :labels] / jnp.maximum(ends - starts, 1), peaks

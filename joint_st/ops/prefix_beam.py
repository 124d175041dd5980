"""CTC prefix beam search, which follows many prefixes at once, each with the sum of its alignments.

A *prefix* is what an alignment spells once repeats are collapsed and blanks dropped. Two log probabilities are kept for
each: that of its alignments that end in a blank, and that of those that end in its last label, because only after a
blank does the same label extend the prefix again (Graves, "Supervised Sequence Labelling with Recurrent Neural
Networks", 2012, section 7.5; as a beam search over frames, Hannun et al., arXiv 1408.2873, algorithm 1). With both
known, a frame either leaves a prefix as it is, by a blank or by its last label again, or adds a label to it.

Pruning: a frame extends prefixes only by its likeliest labels, and the likeliest prefixes are kept. A kept prefix gets
the contributions of all kept prefixes, so its score is the logarithm of the sum over those alignments whose prefixes
were all in the beam.

A prefix can come from two sides in one frame: from itself, and from its parent (itself without the last label) by its
last label. These two must be added, and not be in the beam twice. To avoid a search through all `W * K` new prefixes,
each prefix carries a hash of its labels and the hash of its parent. At most one kept prefix is the parent of a given
one, and one label leads from the one to the other, so comparing the hashes of `W` prefixes with the parents' hashes of
`W` prefixes finds everything that must be merged.

Shallow fusion adds to a prefix's log probability a score that depends on its labels alone. All its alignments get the
same score, so both log probabilities of a prefix include it, and a further label adds the change.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from joint_st.ops.lattice import IMPOSSIBLE, logaddexp
from joint_st.ops.masks import close_up, length_mask, zero_padding

_NO_LABEL = -1

# Multipliers of the two halves of a hash: odd 32-bit numbers without a pattern.
_MULTIPLIERS = ((0x9E3779B1, 0x85EBCA6B), (0xC2B2AE3D, 0x27D4EB2F))


class NBest(NamedTuple):
    """The likeliest prefixes of each utterance, the likeliest first."""

    labels: jax.Array
    """Labels of each prefix, int32 [B, N, T]; the blank from its length on."""
    lengths: jax.Array
    """Number of labels in each, int32 [B, N]."""
    scores: jax.Array
    """Log probabilities in nats, including fused scores, float32 [B, N]; -inf, with no labels, in empty places."""


@functools.partial(jax.jit, static_argnames=("beam", "candidates", "best", "blank"))
def prefix_beam_search(
    logits: jax.Array,
    lengths: jax.Array,
    fusion: Any = None,
    *,
    beam: int = 16,
    candidates: int = 8,
    best: int | None = None,
    blank: int = 0,
) -> NBest:
    """Return the `best` (N) likeliest prefixes of each utterance; by default all W that are kept.

    logits: float [B, T, V] of any precision, not normalised. lengths: int [B], frames, at most T; frames beyond them,
    even NaN, change nothing, and an utterance of 0 frames has the empty prefix with score 0. beam: W, prefixes kept
    after each frame. candidates: K, labels of a frame that may extend a prefix; all V - 1 where K is more. blank: id of
    the blank. These four are static. Log probabilities are float32.

    fusion: adds the scores of a language model and hot words to the log probability of each prefix, during the search
    and in the result; the candidates still depend on the logits alone. It is a tree of arrays with the methods of
    `joint_st.heads.PrefixScores`, or None.

    Raises `ValueError` where beam or candidates is below 1, or best not from 1 to beam.
    """
    best = beam if best is None else best
    if min(beam, candidates, best) < 1 or best > beam:
        raise ValueError(f"beam {beam}, candidates {candidates}, best {best}: all from 1 on, and best at most beam")
    time = logits.shape[1]
    if not time:  # (JAX gathers from no empty array.)
        logits = jnp.pad(logits, ((0, 0), (0, 1), (0, 0)))
    in_audio = length_mask(lengths, logits.shape[1])
    # A logit of -inf is legal: a symbol ruled out.
    logits = jnp.maximum(zero_padding(logits, in_audio).astype(jnp.float32), IMPOSSIBLE)
    of_labels = jnp.where(jnp.arange(logits.shape[2]) == blank, IMPOSSIBLE, logits)
    _, likeliest = lax.top_k(of_labels, max(1, min(candidates, logits.shape[2] - 1)))
    search = functools.partial(_search, fusion=fusion, beam=beam, best=best, blank=blank)
    labels, lengths, scores = jax.vmap(search)(logits, jax.nn.logsumexp(logits, axis=2), likeliest, in_audio)
    return NBest(labels[..., :time], lengths, scores)


# The functions below are for one utterance.


class _Beam(NamedTuple):
    """The prefixes kept, the likeliest first.

    Log probabilities include fused scores, and are relative to that of the likeliest prefix.
    """

    blank: jax.Array
    """Log probability of the alignments that end in a blank, [W]."""
    label: jax.Array
    """Log probability of the alignments that end in the last label, [W]."""
    last: jax.Array
    """The last label, int32 [W]; `_NO_LABEL` of the empty prefix."""
    hash: jax.Array
    """Two hashes of the labels, uint32 [W, 2]."""
    parent: jax.Array
    """The hashes of all labels but the last, uint32 [W, 2]."""
    fused: Any
    """The fused score that the last label adds, [W], and the fusion's state, a tree of [W, ...]; () without fusion."""

    def total(self) -> jax.Array:
        """Log probability [W] of all alignments."""
        return logaddexp(self.blank, self.label)


def _search(logits, log_totals, candidates, in_audio, *, fusion, beam, best, blank):
    """Return labels [N, T], lengths [N] and scores [N] from logits [T, V], the logarithms of the sums of their
    exponentials [T], the candidates' labels [T, K], and which frames are valid [T]."""

    def advance(prefixes, frame):
        t, log_total, candidates, there = frame

        def log_probs(labels):
            # (Gathered from the logits of all frames, because with many symbols a copy of the frame's logits would cost
            # more than everything else.)
            return logits[t, labels] - log_total

        after, shift, parents, added = _advance(prefixes, log_probs, candidates, blank, fusion)
        prefixes = jax.tree.map(functools.partial(jnp.where, there), after, prefixes)
        parents = jnp.where(there, parents, jnp.arange(beam))
        return prefixes, (jnp.where(there, shift, 0.0), parents, jnp.where(there, added, _NO_LABEL))

    frames = jnp.arange(in_audio.size), log_totals, candidates, in_audio
    prefixes, (shifts, parents, added) = lax.scan(advance, _empty_prefix(beam, fusion), frames)
    totals = prefixes.total()
    if fusion is not None:
        totals += fusion.finish(prefixes.fused[1])
    totals, slots = lax.top_k(totals, best)
    spelled = _trace_back(slots, parents, added)
    alive = _alive(totals)
    kept = (spelled != _NO_LABEL) & alive[:, None]
    scores = jnp.where(alive, totals + shifts.sum(), -jnp.inf)
    return close_up(spelled, kept, blank), kept.sum(axis=1, dtype=jnp.int32), scores


def _empty_prefix(beam: int, fusion: Any) -> _Beam:
    """Return a beam of the empty prefix, as if after a blank; the other places have probability 0."""
    nowhere = jnp.full(beam, IMPOSSIBLE)
    no_hash = jnp.zeros((beam, 2), jnp.uint32)
    fused = () if fusion is None else jax.tree.map(lambda x: jnp.stack([x] * beam), (jnp.float32(0), fusion.start()))
    return _Beam(nowhere.at[0].set(0.0), nowhere, jnp.full(beam, _NO_LABEL), no_hash, no_hash, fused)


def _advance(prefixes: _Beam, log_probs, candidates, blank, fusion):
    """Return the beam after a frame, the shift of its scores, the origin of each prefix, and the label added.

    log_probs: function of symbols that returns their log probabilities. candidates: labels [K]. Returns the beam, the
    shift [], slots of the previous beam int32 [W], and labels int32 [W], `_NO_LABEL` where none was added.
    """
    size, total = prefixes.last.size, prefixes.total()
    # (The blank is a candidate where there are too few labels.)
    candidate_log_probs = jnp.where(candidates == blank, IMPOSSIBLE, log_probs(candidates))
    last_log_probs = jnp.where(prefixes.last == _NO_LABEL, IMPOSSIBLE, log_probs(prefixes.last))
    ends_alike = candidates == prefixes.last[:, None]

    # Extended by a label, [W, K].
    lengthened = jnp.where(ends_alike, prefixes.blank[:, None], total[:, None]) + candidate_log_probs
    gain, fused = 0.0, ()
    if fusion is not None:
        gain, states = prefixes.fused
        fused = fusion.lengthen(states, candidates)
        lengthened += fused[0]

    # Unchanged, [W]; the parent's contribution is added here, and is then not a separate prefix.
    merged, parent = _parents(prefixes, _alive(total))
    doubled = prefixes.last[parent] == prefixes.last
    from_parent = jnp.where(doubled, prefixes.blank[parent], total[parent]) + last_log_probs + gain
    by_label = prefixes.label + last_log_probs
    by_label = jnp.where(merged, logaddexp(by_label, from_parent), by_label)
    by_blank = total + log_probs(blank)
    column = jnp.where(merged & ends_alike.any(axis=1), jnp.argmax(ends_alike, axis=1), candidates.size)
    lengthened = lengthened.at[parent, column].set(IMPOSSIBLE, mode="drop")

    scores = jnp.concatenate([logaddexp(by_blank, by_label), lengthened.ravel()])
    scores, chosen = lax.top_k(scores, size)
    new = chosen >= size
    cell = jnp.where(new, chosen - size, 0)
    origin, column = jnp.where(new, cell // candidates.size, chosen), cell % candidates.size
    added = jnp.where(new, candidates[column], _NO_LABEL)
    # Without the barrier XLA's CPU compiler fuses all of the above into each of the gathers below: six times the time.
    scores, new, origin, column, added = lax.optimization_barrier((scores, new, origin, column, added))

    def choose(more, same):
        """Return [W, ...]: rows of `more` [W, K, ...] (or [W, 1, ...]) for lengthened prefixes, else of `same` [W,
        ...]."""
        of_new = more[origin, jnp.minimum(column, more.shape[1] - 1)]
        return jnp.where(new.reshape(-1, *[1] * (same.ndim - 1)), of_new, same[origin])

    after = _Beam(
        blank=_relative(jnp.where(new, IMPOSSIBLE, by_blank[origin]), scores[0]),
        label=_relative(jnp.where(new, scores, by_label[origin]), scores[0]),
        last=jnp.where(new, added, prefixes.last[origin]),
        hash=jnp.where(new[:, None], _lengthen(prefixes.hash[origin], added), prefixes.hash[origin]),
        parent=jnp.where(new[:, None], prefixes.hash[origin], prefixes.parent[origin]),
        fused=jax.tree.map(choose, fused, prefixes.fused),
    )
    return after, scores[0], origin, added


def _parents(prefixes: _Beam, alive) -> tuple[jax.Array, jax.Array]:
    """Return whether the parent of each prefix is in the beam too, bool [W], and in which slot, int32 [W].

    Two prefixes count as the same if 64 bits of hash agree. In an utterance of `T` frames, two different ones agree
    with probability `T * W * W / 2 ** 64`, 1e-14 for 1,000 frames and a beam of 16; the alignments of one would then be
    added to the other. Prefixes of probability 0 fill the beam while there are fewer than W others. They may contain
    the same one twice, so they are never merged.
    """
    same = (prefixes.parent[:, None] == prefixes.hash[None]).all(axis=2)
    same &= (alive & (prefixes.last != _NO_LABEL))[:, None] & alive
    return same.any(axis=1), jnp.argmax(same, axis=1)


def _lengthen(hashes: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the hashes uint32 [W, 2] of prefixes extended by a label [W], from the hashes of the prefixes.

    Each step can be inverted, for the label and for the hash: prefixes that differ only in their last label, and
    prefixes with the same last label after parents with different hashes, never collide.
    """
    inner, outer = jnp.asarray(_MULTIPLIERS, jnp.uint32)
    hashes = (hashes ^ (labels[:, None].astype(jnp.uint32) + 1) * inner) * outer
    return hashes ^ hashes >> 15


def _trace_back(slots, parents, added) -> jax.Array:
    """Return the label that each frame added, int32 [N, T], to the prefixes that end in `slots` [N]."""

    def back(slots, frame):
        parents, added = frame
        return parents[slots], added[slots]

    _, spelled = lax.scan(back, slots, (parents, added), reverse=True)
    return spelled.T


def _alive(log_prob):
    return log_prob > IMPOSSIBLE / 2


def _relative(log_probs, highest):
    return jnp.maximum(log_probs - highest, IMPOSSIBLE)

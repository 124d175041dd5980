"""Decoders, which turn a head's emissions into labels: a part that runs on the device, and a part for the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.fusion import Fusion
from joint_st.decoding.fusion.build import Fused
from joint_st.decoding.piece import Context, Continued, Piece, read_labels
from joint_st.decoding.rescoring import Judged, Rescoring
from joint_st.distributed.mesh import over_batch
from joint_st.heads import Emissions, Head
from joint_st.ops.masks import close_up


class Decoder(Protocol):
    """A way to decode."""

    @property
    def name(self) -> str:
        """Name in tables, such as `greedy`."""
        ...

    @property
    def tables(self) -> Any:
        """Lookup tables of `on_device`, a tree of arrays; None if it needs none."""
        ...

    def start(self, tables: Any) -> Context | None:
        """Return the context of the first piece of a recording, given `tables` or others of the same shapes; None where
        pieces do not depend on the text before them."""
        ...

    def on_device(
        self,
        heads: Sequence[Head],
        emissions: Sequence[Emissions],
        mask: jax.Array,
        mesh: jax.sharding.Mesh,
        tables: Any,
        piece: Piece | None = None,
    ) -> tuple[Any, ...]:
        """Return, for each head and its emissions [B, T, ...], arrays of `B` rows to fetch from the device.

        mask: valid frames [B, T]. mesh: the mesh that the batch is cut over. tables: `tables`, or others of the same
        shapes, on every device. piece: all rows are this piece of a recording; for each head the result is then a pair
        of these arrays and the `Context` after the best hypothesis of each row, a tree of [B, ...]. It runs inside a
        jitted function.
        """
        ...

    def on_host(self, fetched: Any, whole: bool = True) -> list[Any]:
        """Return `B` arrays int32 [labels] from the fetched arrays of one head.

        whole: whether the rows are whole utterances, and not pieces, which `join` takes.
        """
        ...

    def join(self, pieces: Sequence[tuple[int, Any]]) -> Any:
        """Return the result for a recording, from the results of `on_host` for its pieces and the frame at which each
        begins."""
        ...


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Greedy decoding: each frame emits its likeliest label, given what the frames before it have emitted."""

    name = "greedy"
    tables = None

    def start(self, tables):
        return None

    def on_device(self, heads, emissions, mask, mesh, tables, piece=None):
        search = over_batch(lambda head, own, mask: head.greedy(own, mask), mesh, whole=1)
        return tuple(search(head, own, mask) for head, own in zip(heads, emissions, strict=True))

    def on_host(self, fetched, whole=True):
        return [emitted_labels(row)[0] for row in fetched]

    def join(self, pieces):
        return join_labels([labels for _, labels in pieces])

    def n_best(self, heads, emissions, mask, mesh, tables, best, piece=None) -> list[Ranked]:
        """Return the single hypothesis, which has no score."""
        emitted = self.on_device(heads, emissions, mask, mesh, tables)
        flat = [one.reshape(len(one), 1, -1) for one in emitted]
        return [Ranked(close_up(one, one > 0), (one > 0).sum(axis=2, dtype=jnp.int32), None) for one in flat]


class Ranked(NamedTuple):
    """The likeliest hypotheses of each utterance, the likeliest first."""

    labels: jax.Array
    """int32 [B, N, U]."""
    lengths: jax.Array
    """Labels in each, int32 [B, N]."""
    scores: jax.Array | None
    """Scores of the hypotheses (see `NBest`), float32 [B, N]; None where the search has none."""
    context: Any = ()
    """The `Context` after the likeliest one, a tree of [B, ...], where they are of a piece of a recording."""


class Tables(NamedTuple):
    """The tables of a beam search and of the rescoring after it."""

    fusion: Fusion | None
    rescoring: Rescoring | None

    def start(self) -> Context:
        """Return the context of the beginning of a text."""
        fused = () if self.fusion is None else self.fusion.start()
        return Context(fused, () if self.rescoring is None else self.rescoring.lm.start())

    def continued(self, piece: Piece | None) -> Fusion | Continued | None:
        """Return the scores of the prefixes of whole texts, or of those of a piece."""
        return self.fusion if self.fusion is None or piece is None else Continued(self.fusion, piece)

    def follow(self, piece: Piece, labels: jax.Array, lengths: jax.Array) -> tuple[Context, jax.Array, Judged]:
        """Return the context after the best hypotheses of a piece, int32 [B, T], `lengths` [B] of them; and what they have
        yet to add, by fusion and by rescoring, [B] each: 0 at the end of a recording."""

        def one(labels, length):
            fused, of_fusion, rescored, of_rescoring = (), jnp.float32(0), (), Judged(jnp.float32(0), jnp.float32(0))
            if self.fusion is not None:
                start = piece.context.fusion
                _, fused = read_labels(self.fusion.lengthen, start, labels, length, jnp.float32(0))
                of_fusion = self.fusion.pending(fused)[0]
            if self.rescoring is not None:
                _, rescored = self.rescoring.read(piece.context.rescoring, labels, length)
                of_rescoring = self.rescoring.pending(rescored)
            context = jax.tree.map(lambda x: x[0], Context(fused, rescored))
            return context, *jax.tree.map(lambda x: jnp.where(piece.last, 0.0, x), (of_fusion, of_rescoring))

        return jax.vmap(one)(labels, lengths)


@dataclasses.dataclass(frozen=True)
class Beam:
    """Beam search: the likeliest hypothesis of `Head.beam`, or the best of all kept ones after rescoring."""

    beam: int = 16
    """Prefixes kept after each frame."""
    candidates: int = 8
    """Number of labels of a frame that may extend a prefix."""
    fused: Fused | None = None
    """Language models and hot words."""

    @property
    def name(self) -> str:
        return ", ".join([f"beam {self.beam}", *(self.fused.names if self.fused else ())])

    @property
    def tables(self) -> Tables | None:
        return self.fused and Tables(self.fused.fusion, self.fused.rescoring)

    def start(self, tables):
        return tables and tables.start()

    def on_device(self, heads, emissions, mask, mesh, tables, piece=None):
        found = self.n_best(heads, emissions, mask, mesh, tables, 1, piece)
        rows = [(one.labels[:, 0], one.lengths[:, 0]) for one in found]
        return tuple(rows if piece is None else zip(rows, [one.context for one in found], strict=True))

    def on_host(self, fetched, whole=True):
        return [labels[:length] for labels, length in zip(*fetched, strict=True)]

    def join(self, pieces):
        return join_labels([labels for _, labels in pieces])

    def n_best(self, heads, emissions, mask, mesh, tables, best, piece=None) -> list[Ranked]:
        """Return the `best` (N) likeliest hypotheses of each head, [B, N, ...], after rescoring.

        piece: see `Decoder.on_device`. The score of the best hypothesis is then what the piece adds to that of the best
        one before it; those of the others are as far below it as they are at the end of the piece.
        """

        def search(head, given, emissions, mask):
            tables, piece = given
            tables = tables or Tables(None, None)
            scores, rescoring = tables.continued(piece), tables.rescoring
            kept = best if rescoring is None else self.beam
            found = head.beam(emissions, mask, scores, beam=self.beam, candidates=self.candidates, best=kept)
            if rescoring is not None:
                found = rescoring.rescore(found, piece)
            if piece is None:
                return Ranked(*found)
            context, pending, judged = tables.follow(piece, found.labels[:, 0], found.lengths[:, 0])
            if rescoring is not None:
                pending += rescoring.weigh(judged)
            return Ranked(found.labels, found.lengths, found.scores - pending[:, None], context)

        found = search_heads(search, heads, (tables, piece), emissions, mask, mesh)
        return [Ranked(*(x[:, :best] for x in one[:3]), one.context) for one in found]


class Hypotheses(NamedTuple):
    """All N hypotheses that a beam has kept for an utterance, with a language model's score of each, so that weights
    can be tried afterwards."""

    labels: list[np.ndarray]
    """int32 [U] each."""
    scores: np.ndarray
    """Scores of the search, fused models included, float32 [N]."""
    log_probs: np.ndarray
    """Log probabilities by the rescoring model, float32 [N]."""
    counts: np.ndarray
    """Number of words or labels, as that model counts, float32 [N]."""


@dataclasses.dataclass(frozen=True)
class NBestScores:
    """A decoder that returns `Hypotheses` instead of labels. `beam` must have rescoring."""

    beam: Beam

    @property
    def name(self) -> str:
        return self.beam.name

    @property
    def tables(self):
        return self.beam.tables

    def start(self, tables):
        return self.beam.start(tables)

    def on_device(self, heads, emissions, mask, mesh, tables, piece=None):
        beam = self.beam

        def search(head, given, emissions, mask):
            tables, piece = given
            scores = tables.continued(piece)
            found = head.beam(emissions, mask, scores, beam=beam.beam, candidates=beam.candidates, best=beam.beam)
            judged = tables.rescoring.judge(found.labels, found.lengths, piece)
            if piece is None:
                return *found, *judged
            context, *pending = tables.follow(piece, found.labels[:, 0], found.lengths[:, 0])
            left = jax.tree.map(lambda x, less: x - less[:, None], [found.scores, judged], pending)
            return (found.labels, found.lengths, left[0], *left[1]), context

        return tuple(search_heads(search, heads, (tables, piece), emissions, mask, mesh))

    def on_host(self, fetched, whole=True) -> list[Hypotheses]:
        rows = []
        for labels, lengths, scores, log_probs, counts in zip(*fetched, strict=True):
            alive = np.isfinite(scores)
            spelled = [row[:length] for row, length in zip(labels[alive], lengths[alive])]
            rows.append(Hypotheses(spelled, scores[alive], log_probs[alive], counts[alive]))
        return rows

    def join(self, pieces):
        """Join the hypotheses of the pieces of a recording by their rank; where a piece has fewer, its last ones count
        again. So the first one is what `Beam` joins."""
        parts = [own for _, own in pieces if own.labels]
        if not parts:
            return Hypotheses([np.zeros(0, np.int32)], *np.zeros((3, 1), np.float32))
        ranks = [
            np.minimum(n, [len(own.labels) - 1 for own in parts]) for n in range(max(len(own.labels) for own in parts))
        ]
        labels = [join_labels([own.labels[k] for own, k in zip(parts, rank)]) for rank in ranks]
        sums = [
            [sum(column[k] for column, k in zip(each, rank)) for rank in ranks]
            for each in zip(*(own[1:] for own in parts))
        ]
        return Hypotheses(labels, *np.array(sums, np.float32))


def search_heads(
    search: Callable, heads: Sequence[Head], tables: Any, emissions: Sequence[Emissions], mask, mesh
) -> list[Any]:
    """Call `search(head, tables, emissions [B, T, ...], mask [B, T])` for every head; return the results, [B, ...]
    each.

    Heads of one kind whose emissions suffice are searched at once, since most of the time goes into the steps from
    frame to frame.
    """
    if not share_programs([type(head) for head in heads]):
        each = over_batch(search, mesh, whole=2)
        return [each(head, tables, own, mask) for head, own in zip(heads, emissions, strict=True)]
    together = jax.vmap(search, in_axes=(None, None, 1, None), out_axes=1)
    stacked = jax.tree.map(lambda *own: jnp.stack(own, axis=1), *emissions)
    found = over_batch(together, mesh, whole=2)(heads[0], tables, stacked, mask)
    return [jax.tree.map(lambda x, k=k: x[:, k], found) for k in range(len(heads))]


def share_programs(kinds: Sequence[type[Head]]) -> bool:
    """Return whether one head can search the emissions of all heads, because their kinds agree and use nothing else."""
    return len(set(kinds)) == 1 and kinds[0].emissions_suffice


def emitted_labels(emitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels that frames emit (int32 [T, E], see `Head.step`) in order, and the frame of each."""
    frames, _ = np.nonzero(emitted)
    return emitted[emitted != 0], frames


def join_labels(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Join the labels of pieces, int32."""
    return np.concatenate([np.zeros(0, np.int32), *pieces])


def fingerprint(decoder: Decoder, other_look_ahead_ms: float | None = None) -> str:
    """Return a text that changes with everything that changes a decoder's results, including the content of its
    language models. Their weights and penalties are in the decoder's name.

    other_look_ahead_ms: the look-ahead of the streaming layers, if it is not the run's own
    (`Trained.other_look_ahead_ms`).
    """
    ahead = "" if other_look_ahead_ms is None else f", look-ahead {other_look_ahead_ms:g} ms"
    if not isinstance(decoder, Beam):
        return f"{decoder.name}{ahead}"
    of_files = f", {decoder.fused.digest}" if decoder.fused else ""
    return f"{decoder.name}, {decoder.candidates} candidates{of_files}{ahead}"


def without_origin(decoder: Decoder) -> Decoder:
    """Return the decoder as if its user had given the weights that were tuned: where they come from changes no result."""
    if not isinstance(decoder, Beam) or not decoder.fused:
        return decoder
    return dataclasses.replace(decoder, fused=dataclasses.replace(decoder.fused, tuned=""))


def fuse(decoders: Sequence[Decoder], fused: Fused) -> list[Decoder]:
    """Return the decoders, with language models and hot words added to those that can use them."""
    return [dataclasses.replace(one, fused=fused) if isinstance(one, Beam) else one for one in decoders]

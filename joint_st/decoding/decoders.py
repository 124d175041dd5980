"""The ways from a head's emissions to labels: what of it runs on the device, and what is left for the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.fusion import Fusion
from joint_st.decoding.fusion.build import Fused
from joint_st.decoding.rescoring import Rescoring
from joint_st.distributed.mesh import over_batch
from joint_st.heads import Emissions, Head
from joint_st.ops.masks import close_up
from joint_st.ops.prefix_beam import NBest


class Decoder(Protocol):
    """A way to decode."""

    @property
    def name(self) -> str:
        """Such as `greedy`, as it stands in tables."""
        ...

    @property
    def tables(self) -> Any:
        """A tree of arrays that `on_device` looks things up in; None if there are none."""
        ...

    def on_device(
        self,
        heads: Sequence[Head],
        emissions: Sequence[Emissions],
        mask: jax.Array,
        mesh: jax.sharding.Mesh,
        tables: Any,
    ) -> tuple[Any, ...]:
        """For each head and its emissions [B, T, ...], what is fetched from the device: arrays of `B` rows.

        mask: valid frames [B, T]. mesh: that the batch is cut over. tables: `tables`, or others of the same shapes, on
        every device. Runs inside a jitted function.
        """
        ...

    def on_host(self, fetched: Any) -> list[Any]:
        """`B` arrays int32 [labels] from what was fetched of one head."""
        ...

    def join(self, pieces: Sequence[tuple[int, Any]]) -> Any:
        """What was found in a recording, from what `on_host` gives of its pieces and the frame at which each begins."""
        ...


@dataclasses.dataclass(frozen=True)
class Greedy:
    """What each frame emits by itself, or after what the frames before it have."""

    name = "greedy"
    tables = None

    def on_device(self, heads, emissions, mask, mesh, tables):
        search = over_batch(lambda head, own, mask: head.greedy(own, mask), mesh, whole=1)
        return tuple(search(head, own, mask) for head, own in zip(heads, emissions, strict=True))

    def on_host(self, fetched):
        return [emitted_labels(row)[0] for row in fetched]

    def join(self, pieces):
        return join_labels([labels for _, labels in pieces])

    def n_best(self, heads, emissions, mask, mesh, tables, best) -> list[Ranked]:
        """The one hypothesis that there is, which the search gives no score."""
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


class Tables(NamedTuple):
    """What a beam search looks up, and what looks at its hypotheses afterwards."""

    fusion: Fusion | None
    rescoring: Rescoring | None


@dataclasses.dataclass(frozen=True)
class Beam:
    """The likeliest hypothesis found by `Head.beam`; where they are rescored, the best of all it has kept."""

    beam: int = 16
    """Prefixes kept after each frame."""
    candidates: int = 8
    """Labels of a frame that may lengthen a prefix."""
    fused: Fused | None = None
    """Language models and hot words."""

    @property
    def name(self) -> str:
        return ", ".join([f"beam {self.beam}", *(self.fused.names if self.fused else ())])

    @property
    def tables(self) -> Tables | None:
        return self.fused and Tables(self.fused.fusion, self.fused.rescoring)

    def on_device(self, heads, emissions, mask, mesh, tables):
        found = self.n_best(heads, emissions, mask, mesh, tables, 1)
        return tuple((one.labels[:, 0], one.lengths[:, 0]) for one in found)

    def on_host(self, fetched):
        return [labels[:length] for labels, length in zip(*fetched, strict=True)]

    def join(self, pieces):
        return join_labels([labels for _, labels in pieces])

    def n_best(self, heads, emissions, mask, mesh, tables, best) -> list[NBest]:
        """The `best` (N) likeliest hypotheses under each head, [B, N, ...], once they are rescored."""

        def search(head, tables, emissions, mask):
            fusion, rescoring = tables or (None, None)
            kept = best if rescoring is None else self.beam
            found = head.beam(emissions, mask, fusion, beam=self.beam, candidates=self.candidates, best=kept)
            return found if rescoring is None else rescoring.rescore(found)

        found = search_heads(search, heads, tables, emissions, mask, mesh)
        return [NBest(one.labels[:, :best], one.lengths[:, :best], one.scores[:, :best]) for one in found]


class Hypotheses(NamedTuple):
    """All N that a beam has kept of an utterance, with what a language model says of each, so that weights can be tried
    afterwards."""

    labels: list[np.ndarray]
    """int32 [U] each."""
    scores: np.ndarray
    """Scores of the search, fused models included, float32 [N]."""
    log_probs: np.ndarray
    """Log probabilities by the rescoring model, float32 [N]."""
    counts: np.ndarray
    """Words or labels, as of that model, float32 [N]."""


@dataclasses.dataclass(frozen=True)
class NBestScores:
    """A decoder in whose place of labels stand `Hypotheses`. `beam` must be rescored."""

    beam: Beam

    @property
    def name(self) -> str:
        return self.beam.name

    @property
    def tables(self):
        return self.beam.tables

    def on_device(self, heads, emissions, mask, mesh, tables):
        beam = self.beam

        def search(head, tables, emissions, mask):
            found = head.beam(
                emissions, mask, tables.fusion, beam=beam.beam, candidates=beam.candidates, best=beam.beam
            )
            return *found, *tables.rescoring.judge(found.labels, found.lengths)

        return tuple(search_heads(search, heads, tables, emissions, mask, mesh))

    def on_host(self, fetched) -> list[Hypotheses]:
        rows = []
        for labels, lengths, scores, log_probs, counts in zip(*fetched, strict=True):
            alive = np.isfinite(scores)
            spelled = [row[:length] for row, length in zip(labels[alive], lengths[alive])]
            rows.append(Hypotheses(spelled, scores[alive], log_probs[alive], counts[alive]))
        return rows


def search_heads(
    search: Callable, heads: Sequence[Head], tables: Any, emissions: Sequence[Emissions], mask, mesh
) -> list[Any]:
    """`search(head, tables, emissions [B, T, ...], mask [B, T])` of every head; what it finds, [B, ...] each.

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
    """Whether what one head makes of emissions is what all of these kinds would."""
    return len(set(kinds)) == 1 and kinds[0].emissions_suffice


def emitted_labels(emitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that frames emit, as of `Head.step`, int32 [T, E], one after the other, and the frame of each."""
    frames, _ = np.nonzero(emitted)
    return emitted[emitted != 0], frames


def join_labels(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Labels int32 of pieces, one after the other."""
    return np.concatenate([np.zeros(0, np.int32), *pieces])


def fingerprint(decoder: Decoder, other_look_ahead_ms: float | None = None) -> str:
    """Changes with all of a decoder that changes what it finds, the content of its language models included.

    other_look_ahead_ms: that of the streaming layers, where it is not the run's own (`Trained.other_look_ahead_ms`).
    """
    ahead = "" if other_look_ahead_ms is None else f", look-ahead {other_look_ahead_ms:g} ms"
    if not isinstance(decoder, Beam):
        return f"{decoder.name}{ahead}"
    of_files = f", {decoder.fused.digest}" if decoder.fused else ""
    return f"{decoder.name}, {decoder.candidates} candidates{of_files}{ahead}"


def fuse(decoders: Sequence[Decoder], fused: Fused) -> list[Decoder]:
    """The decoders with language models and hot words in those that take them."""
    return [dataclasses.replace(one, fused=fused) if isinstance(one, Beam) else one for one in decoders]

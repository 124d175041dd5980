"""The ways from a head's logits to labels: what of it runs on the device, and what is left for the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.decoding.beam import prefix_beam_search
from joint_st.decoding.fusion import Fusion
from joint_st.decoding.fusion.build import Fused
from joint_st.decoding.greedy import greedy
from joint_st.decoding.rescoring import Rescoring
from joint_st.distributed.mesh import over_batch


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
        self, logits: Sequence[jax.Array], mask: jax.Array, mesh: jax.sharding.Mesh, tables: Any
    ) -> tuple[Any, ...]:
        """For the logits [B, T, V] of each head, what is fetched from the device: arrays of `B` rows.

        mask: valid frames [B, T]. mesh: that the batch is cut over. tables: `tables`, or others of the same shapes, on
        every device. Runs inside a jitted function.
        """
        ...

    def on_host(self, fetched: Any, frames: np.ndarray) -> list[np.ndarray]:
        """`B` arrays int32 [labels] from what was fetched of one head. frames: int [B], valid ones."""
        ...


@dataclasses.dataclass(frozen=True)
class Greedy:
    """Each frame's likeliest symbol."""

    name = "greedy"
    tables = None

    def on_device(self, logits, mask, mesh, tables):
        return tuple(jnp.argmax(of_head, axis=-1).astype(jnp.int32) for of_head in logits)

    def on_host(self, fetched, frames):
        return greedy(fetched, frames)


class Tables(NamedTuple):
    """What a beam search looks up, and what looks at its hypotheses afterwards."""

    fusion: Fusion | None
    rescoring: Rescoring | None


@dataclasses.dataclass(frozen=True)
class Beam:
    """The likeliest prefix found by `prefix_beam_search`; where they are rescored, the best of all it has kept."""

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

    def on_device(self, logits, mask, mesh, tables):
        def search(tables, logits, lengths):
            fusion, rescoring = tables or (None, None)
            best = 1 if rescoring is None else self.beam
            found = prefix_beam_search(logits, lengths, fusion, beam=self.beam, candidates=self.candidates, best=best)
            return found if rescoring is None else rescoring.rescore(found)

        found = over_heads(search, tables, logits, mask, mesh)
        return tuple((found.labels[:, head, 0], found.lengths[:, head, 0]) for head in range(len(logits)))

    def on_host(self, fetched, frames):
        return [labels[:length] for labels, length in zip(*fetched, strict=True)]


def over_heads(search, tables, logits: Sequence[jax.Array], mask: jax.Array, mesh: jax.sharding.Mesh):
    """`search(tables, logits [B, T, V], lengths [B])` of every head; what it finds, [B, heads, ...].

    One search for all heads, since most of its time goes into the steps from frame to frame.
    """
    each = over_batch(jax.vmap(search, in_axes=(None, 1, None), out_axes=1), mesh, whole=1)
    return each(tables, jnp.stack(logits, axis=1), mask.sum(axis=1, dtype=jnp.int32))


def fuse(decoders: Sequence[Decoder], fused: Fused) -> list[Decoder]:
    """The decoders with language models and hot words in those that take them."""
    return [dataclasses.replace(one, fused=fused) if isinstance(one, Beam) else one for one in decoders]

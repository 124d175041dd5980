"""All that a beam has kept, with what a language model says of each, so that its weights can be tried afterwards."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from joint_st.decoding.beam import prefix_beam_search
from joint_st.decoding.decoders import Beam, over_heads


class Hypotheses(NamedTuple):
    """Of an utterance, N of them."""

    labels: list[np.ndarray]
    """int32 [U] each."""
    scores: np.ndarray
    """Of the search, with what is fused, float32 [N]."""
    log_probs: np.ndarray
    """By the rescoring model, float32 [N]."""
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

    def on_device(self, logits, mask, mesh, tables):
        def search(tables, logits, lengths):
            found = prefix_beam_search(
                logits, lengths, tables.fusion, beam=self.beam.beam, candidates=self.beam.candidates
            )
            return *found, *tables.rescoring.judge(found.labels, found.lengths)

        found = over_heads(search, tables, logits, mask, mesh)
        return tuple(tuple(x[:, head] for x in found) for head in range(len(logits)))

    def on_host(self, fetched, frames) -> list[Hypotheses]:
        rows = []
        for labels, lengths, scores, log_probs, counts in zip(*fetched, strict=True):
            alive = np.isfinite(scores)
            spelled = [row[:length] for row, length in zip(labels[alive], lengths[alive])]
            rows.append(Hypotheses(spelled, scores[alive], log_probs[alive], counts[alive]))
        return rows

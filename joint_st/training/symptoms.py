"""Warnings about two ways in which a training commonly fails without an error, with what helps.

When CTC collapses, the heads emit only blanks and their texts stay empty. When the model overfits, the training loss
keeps falling while the error rate of the dev set no longer does. Steps on text alone (`training.text_first_steps`) do not
count: they lower the loss, and the dev set, which is speech, cannot follow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from joint_st.passes import PASSES

COLLAPSED_LENGTH, COLLAPSED_BLANKS = 0.1, 0.95
"""A head has collapsed where its texts have less than this share of the references' characters, and it emits nothing on
more than this share of the frames."""

PATIENCE = 2
"""Evaluations in a row that must show a collapse before the warning: CTC first learns where nothing is to be emitted."""

STANDS_FOR = 3
"""Evaluations without a new best after which the error rate of the dev set counts as no longer improving."""

LESS, FALLS = 0.99, 0.95
"""Ratios to the values at the best step below which an error rate counts as better and a training loss as lower."""


class Symptoms:
    """Watches the metrics that a training logs; it starts without memory when a run is continued.

    text_first_steps: steps on text alone before those on speech.
    """

    def __init__(self, text_first_steps: int = 0):
        self._text_first_steps = text_first_steps
        self._collapsed = dict.fromkeys(PASSES, 0)
        self._losses: list[float] = []
        self._loss: float | None = None
        self._evaluations: list[tuple[int, float, str, float]] = []
        self._told_at = 0

    def add_loss(self, loss: float, since: int) -> None:
        """Remember a training loss that was logged: the mean over the steps after the first `since` ones."""
        if since >= self._text_first_steps:
            self._losses.append(loss)

    def found(self, step: int, rank: float, shown: str, rates: Mapping[str, float | None]) -> list[str]:
        """Remember the results on the dev set after `step` steps, and return the warnings that they give rise to.

        rank: the number by which checkpoints are ranked, lower is better. shown: the result in words. rates: by column
        of `metrics.csv`.
        """
        if step <= self._text_first_steps:
            return []
        return [*self._collapses(rates), *self._overfits(step, rank, shown)]

    def _collapses(self, rates: Mapping[str, float | None]) -> list[str]:
        lines = []
        for one in PASSES:
            length, blanks = (rates.get(f"dev_{one}_{name}") for name in ("length_ratio", "blank_share"))
            if length is None or blanks is None:
                continue
            collapsed = length < COLLAPSED_LENGTH and blanks > COLLAPSED_BLANKS
            self._collapsed[one] = self._collapsed[one] + 1 if collapsed else 0
            if self._collapsed[one] == PATIENCE:
                lines.append(
                    f"the {one.replace('_', '-')} head still emits almost nothing (blanks on {blanks:.1%} of the frames, "
                    f"{length:.1%} of the references' length): its CTC has collapsed; lower "
                    "optimizer.peak_learning_rate, raise optimizer.warmup_steps, begin with shorter utterances "
                    "(data.max_seconds), and see whether labels fit their frames (column infeasible)"
                )
        return lines

    def _overfits(self, step: int, rank: float, shown: str) -> list[str]:
        if self._losses:
            self._loss = float(np.mean(self._losses))
            self._losses.clear()
        if (loss := self._loss) is None:  # nothing to compare later ones with
            return []
        self._evaluations.append((step, rank, shown, loss))
        lowest = min(rank for _, rank, _, _ in self._evaluations)
        # A tiny improvement of the error rate does not count.
        best_step, _, best, then = next(one for one in self._evaluations if one[1] * LESS <= lowest)
        since = [one for one in self._evaluations if one[0] > best_step]
        if len(since) < STANDS_FOR or best_step == self._told_at or not loss < FALLS * then:
            return []
        self._told_at = best_step
        return [
            f"the dev set has not improved since step {best_step} ({best}), while the training loss fell from "
            f"{then:.3f} to {loss:.3f}: the model overfits; to regularise it, use dropout "
            "(model.dropout), time masks (spec_augment), losses.cr_ctc, a narrower model, more data or text"
        ]

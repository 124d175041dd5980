"""Two ways in which a training commonly fails without an error, and the lines that say so with what helps.

CTC that collapses: the heads emit blanks alone, and their texts stay empty. Overfitting: the training loss falls on
while the error rate of the dev set stands.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from joint_st.passes import PASSES

COLLAPSED_LENGTH, COLLAPSED_BLANKS = 0.1, 0.95
"""A head has collapsed where its texts have less than this share of the references' characters, and it emits nothing on
more than this share of the frames."""

PATIENCE = 2
"""Evaluations in a row that show a collapse before it is told: CTC begins by learning where nothing is to be emitted."""

STANDS_FOR = 3
"""Evaluations without a new best after which the error rate of the dev set is said to stand."""

LESS, FALLS = 0.99, 0.95
"""What the error rate must come to, relative to the best, to count as better, and the training loss to count as less."""


class Symptoms:
    """Watches what a training logs; what it remembers begins anew where a run goes on."""

    def __init__(self):
        self._collapsed = dict.fromkeys(PASSES, 0)
        self._losses: list[float] = []
        self._evaluations: list[tuple[int, float, str, float]] = []
        self._told_at = 0

    def add_loss(self, loss: float) -> None:
        """Take in a training loss that was logged."""
        self._losses.append(loss)

    def found(self, step: int, rank: float, shown: str, rates: Mapping[str, float]) -> list[str]:
        """Take in what the dev set came to after `step` steps; the lines that there are to say.

        rank: the number by which checkpoints are ranked, lower is better. shown: the result in words. rates: by column
        of `metrics.csv`.
        """
        return [*self._collapses(rates), *self._overfits(step, rank, shown)]

    def _collapses(self, rates: Mapping[str, float]) -> list[str]:
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
        loss = float(np.mean(self._losses)) if self._losses else float("nan")
        self._losses.clear()
        self._evaluations.append((step, rank, shown, loss))
        lowest = min(rank for _, rank, _, _ in self._evaluations)
        # An error rate that is lower by next to nothing is no progress.
        best_step, _, best, then = next(one for one in self._evaluations if one[1] * LESS <= lowest)
        since = [one for one in self._evaluations if one[0] > best_step]
        if len(since) < STANDS_FOR or best_step == self._told_at or not loss < FALLS * then:
            return []
        self._told_at = best_step
        return [
            f"the dev set has gained nothing since step {best_step} ({best}), while the training loss fell from "
            f"{then:.3f} to {loss:.3f}: the model learns its training data by heart; what regularises: dropout "
            "(model.dropout), time masks (spec_augment), losses.cr_ctc, a narrower model, more data or text"
        ]

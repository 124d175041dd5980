"""The error rate that ranks checkpoints and weights of decoding: of words, or of characters in scripts without
spaces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from joint_st.config import EvaluationConfig
from joint_st.data.scripts import mostly_unspaced

Metric = Literal["wer", "cer"]
"""Names of the error rates, as in the rows of tables."""


def ranking_metric(config: EvaluationConfig, references: Iterable[str]) -> Metric:
    """Return the metric that ranks hypotheses, given normalised references and `evaluation.rank_by`.

    `auto` takes the character error rate if most letters are in scripts without spaces between words: a sentence is
    then one word, or a few by chance, and the word error rate says almost nothing.
    """
    if config.rank_by != "auto":
        return config.rank_by
    return "cer" if mostly_unspaced(references) else "wer"

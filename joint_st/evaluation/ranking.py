"""The error rate that ranks checkpoints and weights of decoding: of words, or of characters in scripts without
spaces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from joint_st.config import EvaluationConfig
from joint_st.data.scripts import mostly_unspaced
from joint_st.evaluation.wer import Errors

Metric = Literal["wer", "cer"]
"""Names of the error rates, as in the rows of tables."""


def ranking_metric(config: EvaluationConfig, references: Iterable[str]) -> Metric:
    """Return the metric that ranks hypotheses, given normalised references and `evaluation.rank_by`.

    `auto` takes the character error rate if most letters are in scripts without spaces between words: a sentence is
    then one word, or a few by chance, and the word error rate says almost nothing.
    """
    return metric_of(references) if config.rank_by == "auto" else config.rank_by


def metric_of(references: Iterable[str]) -> Metric:
    """Return the error rate that tells most about hypotheses, given normalised references; see `ranking_metric`."""
    return "cer" if mostly_unspaced(references) else "wer"


def errors_and_length(errors: Errors, metric: Metric) -> tuple[int, int]:
    """Return the numerator and the denominator of an error rate: errors, and the length of the reference, in words or in
    characters."""
    if metric == "wer":
        return errors.word_errors, errors.words
    return errors.character_errors, errors.characters

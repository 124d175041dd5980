"""The error rate that ranks checkpoints and weights of decoding: of words, or of characters in scripts without
spaces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from joint_st.config import EvaluationConfig

Metric = Literal["wer", "cer"]
"""Names of the error rates, as in the rows of tables."""

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"  # Thai, Lao, Burmese, Khmer, Tai
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f\u3031-\u312f\u31a0-\u31ff"  # radicals, kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Chinese characters
)
"""A letter of a script that puts no space between words."""


def ranking_metric(config: EvaluationConfig, references: Iterable[str]) -> Metric:
    """Return the metric that ranks hypotheses, given normalised references and `evaluation.rank_by`.

    `auto` takes the character error rate if most letters are in scripts without spaces between words: a sentence is
    then one word, or a few by chance, and the word error rate says almost nothing.
    """
    if config.rank_by != "auto":
        return config.rank_by
    unspaced = letters = 0
    for text in references:
        unspaced += len(_UNSPACED.findall(text))
        letters += len(text) - text.count(" ")
    return "cer" if 2 * unspaced > letters else "wer"

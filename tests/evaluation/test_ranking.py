"""The error rate that ranks checkpoints and weights of decoding."""

from __future__ import annotations

import json

import pytest

from joint_st.config import EvaluationConfig
from joint_st.data.normalizers import normalizer
from joint_st.evaluation.ranking import ranking_metric
from joint_st.evaluation.tuning import References
from joint_st.runs.directory import RunDirectory


@pytest.mark.parametrize(
    "texts, metric",
    [
        (["hello world", "what is this"], "wer"),
        (["中共高级领导人", "你好"], "cer"),
        (["ご飯を食べました", "カタカナ"], "cer"),
        (["สวัสดีครับ"], "cer"),
        (["\u1797\u17b6\u179f\u17b6\u1781\u17d2\u1798\u17c2\u179a"], "cer"),
        # Korean, Arabic and Hindi put spaces between words.
        (["안녕 하세요", "أهلا بك", "क्या पहनने वाली हो"], "wer"),
        # By letters, over all texts together.
        (["a word or two", "你好"], "wer"),
        (["ok", "中共高级领导人"], "cer"),
        ([""], "wer"),
        ([], "wer"),
    ],
)
def test_characters_count_where_words_have_no_spaces(texts, metric):
    assert ranking_metric(EvaluationConfig(), texts) == metric
    for chosen in ("wer", "cer"):
        assert ranking_metric(EvaluationConfig(rank_by=chosen), texts) == chosen


class Texts:
    """The part of a data set that the references take."""

    normalizer = staticmethod(normalizer("basic"))

    def __init__(self, *texts: str):
        self._texts = texts

    def texts(self):
        return iter(self._texts)


def test_weights_are_tuned_by_characters_there(capsys):
    chinese = References({"dev": Texts("中共高级领导人", "你好")}, EvaluationConfig())
    assert chinese.errors("dev", 0, "中共高领导人。") == 1 and chinese.errors("dev", 1, "你好") == 0
    chinese.print_rate(9, "this")
    english = References({"dev": Texts("one two")}, EvaluationConfig())
    assert english.errors("dev", 0, "one to") == 1 == english.errors("dev", 0, "one txyz")
    english.print_rate(1, "that")
    # Spaces next to such letters are no characters, as in the CER of tables.
    spaced = References({"dev": Texts("今天 天气 ok go")}, EvaluationConfig(rank_by="cer"), ["streaming"])
    spaced.print_rate(spaced.errors("dev", 0, "今天天 ok go"), "spaces")
    one_head = References({"dev": Texts("one two")}, EvaluationConfig(), ["streaming"])
    one_head.print_rate(one_head.errors("dev", 0, "one to"), "these")
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "dev: CER 50.0 % with this",
        "dev: WER 25.0 % with that",
        "dev: CER 11.1 % with spaces",
        "dev: WER 50.0 % with these",
    ]


def test_the_best_checkpoint_is_that_of_the_rate_that_ranks(tmp_path):
    """Checkpoints state it themselves; older ones are ranked by WER."""
    run = RunDirectory(tmp_path)
    facts = {
        1: {"wer": 0.9},
        2: {"wer": 1.0, "cer": 0.2, "ranked_by": "cer"},
        3: {"wer": 0.1, "cer": 0.4, "ranked_by": "cer"},
    }
    for step, own in facts.items():
        (run.checkpoints / str(step) / "facts").mkdir(parents=True)
        (run.checkpoints / str(step) / "facts" / "metadata").write_text(json.dumps(own))
    assert run.best_steps() == [2]

"""Every column that a command writes is explained on a page: those of a training, and those of results."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.config import registered
from joint_st.evaluation.breakdown import break_down
from joint_st.evaluation.compare import compare_utterances
from joint_st.evaluation.confidences import make_confidence_rows
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import by_key, score
from joint_st.evaluation.scoring import score_files
from joint_st.evaluation.streams import Streamed, make_row
from joint_st.evaluation.wer import Errors
from joint_st.evaluation.word_errors import word_errors
from joint_st.losses.base import LOSSES
from joint_st.passes import PASSES
from joint_st.training import asr, lm
from joint_st.training.step import SKIPPED
from joint_st.word_times.boundaries import make_rows as make_align_rows
from joint_st.word_times.spans import Failed
from tests.analysis.test_layer_report import FACTS, make_measured
from tests.tiny import CHECKOUT

DOCS = CHECKOUT / "docs"
OF_ASR = (*asr.COLUMNS, SKIPPED, *(column for name in registered("losses") for column in LOSSES[name].columns))


def code(page: str) -> set[str]:
    """What stands in code type on a page."""
    return set(re.findall(r"`([^`\n]+)`", (DOCS / page).read_text(encoding="utf-8")))


def test_every_column_of_a_training_says_what_it_holds():
    for column in (*OF_ASR, *lm.COLUMNS):
        assert column.description.endswith("."), column.name


def test_every_column_of_a_training_is_explained():
    named, text = code("metrics.md"), (DOCS / "metrics.md").read_text(encoding="utf-8")
    assert "{{ columns.train }}" in text and "{{ columns.train_lm }}" in text
    for column in (*OF_ASR, *lm.COLUMNS):
        assert column.name in named, column.name


@pytest.fixture(scope="module")
def utterances():
    """Two utterances under both heads, with everything that a source states and a decoder finds."""
    stated = SimpleNamespace(speaker="anna", language="en", noise="street", snr=10.0, synthetic=True)
    found = []
    for head in PASSES:
        own = score(
            ["a", "b"],
            ["so anna went", "call oslo"],
            ["so an na went", "call oslo"],
            [1.0, 2.0],
            split="test",
            head=head,
            subset_of={"so": "heard", "anna": "text_only"}.get,
            entries=[stated, stated],
            samples=["1", "2"],
        )
        for one in own:
            words = [
                {"word": word, "start": 0.0, "end": 0.1, "confidence": 0.5 + 0.1 * n}
                for n, word in enumerate(one.hypothesis.split())
            ]
            found.append(one.with_details(words, [{"text": one.hypothesis, "score": -1.0}]))
    return found


def of_evaluate(utterances, tmp_path):
    how = {"normalizer": "english v2", "step": 3}
    clocks = {"test": SimpleNamespace(factor=lambda decoder, head: 0.1)}
    yield {"run": ""} | make_rows(utterances, clocks=clocks, **how)[0]
    yield break_down(utterances, "speaker", **how)[0]
    yield utterances[0].record()
    for rows in word_errors(utterances).values():
        yield rows[0]


def of_confidences(utterances, tmp_path):
    yield from make_confidence_rows(utterances, {}, step=3, samples=10, seed=0, bins={})


def of_streams(utterances, tmp_path):
    one = Streamed(dict.fromkeys(PASSES, Errors(words=2)), [0.1], 0.1, 2, 0, 0)
    yield make_row(
        "test", [one], SimpleNamespace(look_ahead_ms=0), 320, 4, 0.1, SimpleNamespace(normalizer="basic v2", step=3)
    )


def of_compare(utterances, tmp_path):
    side = SimpleNamespace(
        utterances=by_key(utterances), run=SimpleNamespace(root="runs/a"), step=3, normalizer="english v2"
    )
    yield from compare_utterances(("test", "streaming", "greedy"), side, side, samples=10)


def of_score(utterances, tmp_path):
    for name in ("reference", "a", "b"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": "1", "text": "so anna went"}\n')
    found = score_files(tmp_path / "reference.jsonl", [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], samples=10)
    yield from [*found["systems"], *found["differences"]]


def of_sweeps(utterances, tmp_path):
    yield json.loads((CHECKOUT / "benchmarks" / "results" / "text_injection.json").read_text())[-1]


def of_analyze(utterances, tmp_path):
    shared = {"split": "test", "step": 3, "normalizer": "basic v2"}
    yield shared | FACTS | make_measured().rows(["encoders"])[0]


def of_align(utterances, tmp_path):
    yield from make_align_rows("test", [Failed("a", "it has no audio")])


EXPLAINED_TOGETHER = re.compile(
    r"^(streaming_)?(wer|cer)(_heard|_text_only)?(_low|_high|_by_seed)?$"
    r"|^streaming_(insertions|deletions|substitutions)$"
    r"|^relative_(best|frame_wise|random|wrong_text)$"
    r"|^(frame_wise|random)_boundary_ms$"
    r"|^(audio_to_text|text_to_audio)_(recall_\d+|reciprocal_rank)$"
)
"""Columns that the page explains by the others of their kind."""


@pytest.mark.parametrize(
    "rows",
    [of_evaluate, of_confidences, of_streams, of_compare, of_score, of_sweeps, of_analyze, of_align],
    ids=lambda f: f.__name__,
)
def test_every_column_of_results_is_explained(rows, utterances, tmp_path):
    named = code("result_columns.md")
    for row in rows(utterances, tmp_path):
        assert row
        for name in row:
            assert name in named or EXPLAINED_TOGETHER.match(name), name


def test_no_column_is_explained_that_nothing_writes():
    known = {column.name for column in (*OF_ASR, *lm.COLUMNS)} | {"step"}
    page = (
        (DOCS / "metrics.md")
        .read_text(encoding="utf-8")
        .partition("## What a healthy run")[2]
        .partition("## What is left")[0]
    )
    for line in page.splitlines():
        if line.startswith("| `"):
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                assert name in known, name


def test_the_words_in_neither_subset_are_told(utterances):
    from rich.console import Console

    from joint_st.evaluation.report import make_table

    console = Console(width=80)
    with console.capture() as capture:
        console.print(make_table(make_rows(utterances, normalizer="english v2", step=3)))
    printed = " ".join(capture.get().split())
    assert "test: 3 of 5 words are in neither" in printed and "text_only: that training text alone has" in printed


def test_the_unit_of_a_rate_is_told_as_it_stands_in_the_file():
    import importlib.util
    import sys

    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("generate_of_docs", DOCS / "generate.py")
        generate = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(generate)
    finally:
        sys.path.remove(str(DOCS))
    lines = generate.training_columns().splitlines()
    assert any(re.match(r"\| `dev_full_context_wer` \|.*\| fraction \| Word error rate", line) for line in lines)
    assert any(re.match(r"\| `infeasible` \| `losses.ctc` \|", line) for line in lines)
    assert len(lines) == 2 + 1 + len(OF_ASR)
    assert len(generate.lm_columns().splitlines()) == 2 + len(lm.COLUMNS)
    assert np.all([line.count("|") == lines[0].count("|") for line in lines])

import dataclasses
import io
import json

import pytest
import rich.console

from joint_st.evaluation.bootstrap import rate_interval
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import (
    about_few,
    make_table,
    read_utterances,
    score,
    short_names,
    write_rows,
    write_utterances,
)

KEYS = [
    "split",
    "subset",
    "head",
    "decoder",
    "wer",
    "wer_low",
    "wer_high",
    "cer",
    "cer_low",
    "cer_high",
    "insertions",
    "deletions",
    "substitutions",
    "utterances",
    "words",
    "normalizer",
    "step",
]
COUNTS = ["insertions", "deletions", "substitutions", "words", "character_errors", "characters"]
REFERENCES = ["so anna went", "call oslo", "so so", ""]
SAID = ["so an na went", "call oslo", "so to so", "a"]
HEARD = {"so", "went", "call"}


def scored(head="streaming", hypotheses=SAID, split="test", known=True):
    return score(
        ["a", "b", "c", "d"],
        REFERENCES,
        hypotheses,
        [1.25, 2, 0.5, 0.1],
        split=split,
        head=head,
        subset_of=(lambda word: "heard" if word in HEARD else "text_only") if known else None,
    )


def test_rows_over_speakers():
    spoken = [dataclasses.replace(one, speaker=name) for one, name in zip(scored(), ["x", "y", "x", "z"])]
    plain = make_rows(spoken, normalizer="n", step=1)[0]
    row = make_rows(spoken, normalizer="n", step=1, draw="speakers")[0]
    # Errors and words of x (two of the sentences), y and z.
    expected = rate_interval([3, 0, 1], [5, 2, 0])
    assert (row["wer_low"], row["wer_high"], row["speakers"]) == (*expected, 3)
    named = ("wer_low", "wer_high", "cer_low", "cer_high", "speakers")
    assert {name: row[name] for name in plain if name not in named} == {
        name: plain[name] for name in plain if name not in named
    }
    unstated = make_rows(scored(), normalizer="n", step=1, draw="speakers")[0]
    assert [unstated[name] for name in named] == [None] * 5 and unstated["wer"] == plain["wer"]
    assert about_few([plain]) == [
        "fewer than 20 utterances are too few for an interval: it is narrower than it should be"
    ]
    assert about_few([row, unstated]) == [
        "95 %: of speakers, drawn with all their utterances",
        "no interval: not all utterances state a speaker (manifest key, TFDS feature `speaker`)",
        "fewer than 20 speakers are too few for an interval: it is narrower than it should be",
    ]


def test_rows_by_hand():
    rows = make_rows(scored(), normalizer="english v1", step=500)
    assert all(list(row) == KEYS for row in rows)
    everything, heard, text_only = rows
    assert [row["subset"] for row in rows] == ["all", "heard", "text_only"]
    assert {(row["split"], row["head"], row["decoder"], row["normalizer"], row["step"]) for row in rows} == {
        ("test", "streaming", "greedy", "english v1", 500)
    }
    counts = ("insertions", "deletions", "substitutions", "words", "utterances")
    assert [everything[key] for key in counts] == [3, 0, 1, 7, 4]
    assert [heard[key] for key in counts] == [1, 0, 0, 5, 3]
    assert [text_only[key] for key in counts] == [1, 0, 1, 2, 2]
    assert (everything["wer"], heard["wer"], text_only["wer"]) == (4 / 7, 1 / 5, 2 / 2)
    # Characters: an inserted space, "to " and "a"; of 12 + 9 + 5 + 0.
    assert everything["cer"] == 5 / 26
    expected = rate_interval([2, 0, 1, 1], [3, 2, 2, 0])
    assert (everything["wer_low"], everything["wer_high"]) == expected
    assert (everything["cer_low"], everything["cer_high"]) == rate_interval([1, 0, 3, 1], [12, 9, 5, 0])


def test_subsets_have_the_speed_of_their_split():
    class OfTest:
        def factor(self, decoder, head):
            return {("greedy", "streaming"): 0.25, ("greedy", "full_context"): None}[decoder, head]

    utterances = scored() + scored("full_context", REFERENCES)
    rows = make_rows(utterances, normalizer="english v1", step=500, clocks={"test": OfTest()})
    before = KEYS.index("normalizer")
    assert all(list(row) == [*KEYS[:before], "real_time_factor", *KEYS[before:]] for row in rows)
    assert [(row["head"], row["real_time_factor"]) for row in rows] == [("streaming", 0.25)] * 3 + [
        ("full_context", None)
    ] * 3
    console = rich.console.Console(width=100, record=True, file=io.StringIO())
    console.print(make_table(rows))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert lines[1][-1] == "RTF"
    assert [line[-1] for line in lines if line[0] == "test"] == ["0.250", "-"]
    assert [line[-1] for line in lines if line[0] == "heard"] == ["3", "3"], "utterances"


def test_splits_heads_and_subsets_have_rows_of_their_own():
    utterances = scored() + scored("full_context", REFERENCES) + scored(split="other", known=False)
    rows = make_rows(utterances, normalizer="none v1", step=1)
    assert [(row["split"], row["head"], row["subset"]) for row in rows] == [
        ("test", "streaming", "all"),
        ("test", "streaming", "heard"),
        ("test", "streaming", "text_only"),
        ("test", "full_context", "all"),
        ("test", "full_context", "heard"),
        ("test", "full_context", "text_only"),
        ("other", "streaming", "all"),
    ]
    assert [row["wer"] for row in rows[3:6]] == [0, 0, 0]


def test_no_words_have_no_rate():
    utterances = score(["a"], [""], ["so"], [1.0], split="silence", head="streaming")
    (row,) = make_rows(utterances, normalizer="none v1", step=0)
    assert (row["wer"], row["wer_low"], row["wer_high"], row["cer"], row["cer_low"]) == (None,) * 5
    assert (row["insertions"], row["words"], row["utterances"]) == (1, 0, 1)
    assert "null" in json.dumps(row)


def test_hypotheses_and_references_must_pair_up():
    with pytest.raises(ValueError):
        score(["a", "b"], ["so", "so"], ["so"], [1.0, 1.0], split="test", head="streaming")


def test_files(tmp_path):
    utterances = scored()
    rows = make_rows(utterances, normalizer="english v1", step=3)
    write_rows(rows, tmp_path / "new" / "rows.json")
    assert json.loads((tmp_path / "new" / "rows.json").read_text()) == rows
    write_rows(rows[:0], tmp_path / "new" / "rows.json")
    assert json.loads((tmp_path / "new" / "rows.json").read_text()) == []

    write_utterances(utterances, tmp_path / "utterances.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "utterances.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "id": "a",
        "split": "test",
        "head": "streaming",
        "decoder": "greedy",
        "seconds": 1.25,
        "reference": "so anna went",
        "hypothesis": "so an na went",
        "insertions": 1,
        "deletions": 0,
        "substitutions": 1,
        "words": 3,
        "character_errors": 1,
        "characters": 12,
        "subsets": {
            "heard": dict(zip(COUNTS, (0, 0, 0, 2, 0, 7))),
            "text_only": dict(zip(COUNTS, (1, 0, 1, 1, 1, 5))),
        },
        "ops": [["equal", "so", "so"], ["substitute", "anna", "an"], ["insert", None, "na"], ["equal", "went", "went"]],
    }
    assert read_utterances(tmp_path / "utterances.jsonl") == utterances
    assert [list(line["subsets"]) for line in lines] == [["heard", "text_only"]] * 2 + [["heard"], []]
    assert not [path for path in tmp_path.rglob(".*")]


def test_the_table_fits_80_columns_and_shows_the_numbers():
    rows = make_rows(scored() + scored("full_context"), normalizer="english v1", step=500)
    console = rich.console.Console(width=80, record=True, file=io.StringIO())
    console.print(make_table(rows))
    text = console.export_text()
    for part in ("english v1", "step 500", "greedy", "full_context", "57.1", "text_only", "100.0"):
        assert part in text
    assert "…" not in text and max(map(len, text.splitlines())) <= 80


def test_fused_decoders_are_named_in_the_title_and_by_a_letter_in_their_column():
    names = ["greedy", "beam 16, 3-gram a.arpa weight 1", "beam 16", "beam 16, 3-gram b.arpa weight 1", "greedy"]
    assert short_names(names) == {names[1]: "beam 16 a", names[3]: "beam 16 b"}
    utterances = [
        one
        for name in names[:2]
        for one in score(["u"], ["in may"], ["in june"], [1.0], split="test", head="streaming", decoder=name)
    ]
    console = rich.console.Console(width=80, file=io.StringIO())
    console.print(make_table(make_rows(utterances, normalizer="n", step=1, samples=100, seed=0)))
    lines = console.file.getvalue().splitlines()
    assert lines[1].strip() == "beam 16 a: beam 16, 3-gram a.arpa weight 1"
    rows = [line.split() for line in lines if line.split()[:1] == ["test"]]
    assert [row[2:-8] for row in rows] == [["greedy"], ["beam", "16", "a"]]

"""Breakdowns against the rows of utterances that were picked by hand."""

import io

import numpy as np
import pytest
import rich.console

from joint_st.data.utterance import Entry
from joint_st.evaluation.breakdown import BY, break_down, explain_unstated, make_breakdown_table, unstated
from joint_st.evaluation.rates import make_rows
from joint_st.evaluation.report import ScoredUtterance, score

HOW = {"normalizer": "english v1", "step": 7, "samples": 50}


def scored(entries, seconds=None, head="streaming", split="test", seed=0):
    """Return an utterance for each entry, of 1 to 6 words, some of them wrong."""
    rng = np.random.default_rng(seed)
    references = [" ".join(rng.choice(["so", "we", "call", "anna"], rng.integers(1, 7))) for _ in entries]
    return score(
        [f"u{i}" for i in range(len(entries))],
        references,
        [text.replace("anna", "ana") for text in references],
        np.ones(len(entries)) if seconds is None else seconds,
        split=split,
        head=head,
        subset_of=lambda word: "text_only" if word == "anna" else "heard",
        entries=entries,
    )


def entry(**stated):
    return Entry("", 1.0, "", True, **stated)


def test_groups_are_those_of_the_speakers_in_every_head_and_subset():
    speakers = ["eva", "bob", "eva", "bob", "carl", "eva"]
    heads = [scored([entry(speaker=name) for name in speakers], head=head) for head in ("streaming", "full_context")]
    rows = break_down(heads[0] + heads[1], "speaker", **HOW)
    expected = []
    for utterances in heads:
        for name in ("bob", "carl", "eva"):
            own = [utterance for utterance, speaker in zip(utterances, speakers) if speaker == name]
            expected += [{"by": "speaker", "group": name, **row} for row in make_rows(own, **HOW)]
    assert rows == expected
    assert {row["subset"] for row in rows} == {"all", "heard", "text_only"}


def test_intervals_of_groups_draw_speakers_where_these_are_drawn():
    speakers = ["eva", "bob"] * 15
    utterances = scored([entry(speaker=name, language="de" if i < 20 else "sv") for i, name in enumerate(speakers)])
    rows = [row for row in break_down(utterances, "language", **HOW, draw="speakers") if row["subset"] == "all"]
    assert [(row["group"], row["speakers"], row["utterances"]) for row in rows] == [("de", 2, 20), ("sv", 2, 10)]
    for row, own in zip(rows, (utterances[:20], utterances[20:])):
        sums = {name: np.zeros(2) for name in speakers}
        for one in own:
            sums[one.speaker] += one.errors["all"].word_errors, one.errors["all"].words
        # Of two speakers, each draw has one of them twice, or both.
        ends = sorted(wrong / words for wrong, words in sums.values())
        assert (row["wer_low"], row["wer_high"]) == pytest.approx(ends)


def test_durations_are_cut_into_quartiles_of_each_split():
    seconds = np.random.default_rng(0).permutation(np.arange(1.0, 41.0))
    short = scored([entry()] * 40, seconds / 10, split="short", seed=1)
    rows = break_down(scored([entry()] * 40, seconds) + short, "duration", **HOW)
    groups = [(row["split"], row["group"], row["utterances"]) for row in rows if row["subset"] == "all"]
    edges = np.quantile(np.arange(1.0, 41.0), [0, 0.25, 0.5, 0.75, 1])
    names = [f"{low:.1f}-{high:.1f} s" for low, high in zip(edges[:-1], edges[1:])]
    assert groups[:4] == [("test", name, 10) for name in names]
    assert [count for split, _, count in groups[4:] if split == "short"] == [10] * 4
    alike = break_down(scored([entry()] * 5), "duration", **HOW)
    assert {(row["group"], row["utterances"]) for row in alike if row["subset"] == "all"} == {("1.0-1.0 s", 5)}


@pytest.mark.parametrize(
    "seconds, names, counts",
    [
        (
            [1.0, 1.001, 1.002, 1.003, 1.01, 1.011, 1.02, 1.021],
            ["1.000-1.002 s", "1.002-1.006 s", "1.006-1.013 s", "1.013-1.021 s"],
            [2, 2, 2, 2],
        ),
        ([1.0, 1.02, 1.04, 1.06, 1.08], ["1.00-1.02 s", "1.02-1.04 s", "1.04-1.06 s", "1.06-1.08 s"], [2, 1, 1, 1]),
        ([1.0, 2.0, 2.0001, 2.0002, 5.0], ["1.0-2.0 s", "2.0-5.0 s"], [4, 1]),
    ],
)
def test_quartiles_near_each_other_are_groups_that_differ_in_name(seconds, names, counts):
    utterances = scored([entry()] * len(seconds), seconds)
    rows = break_down(utterances, "duration", **HOW)
    assert [(row["group"], row["utterances"]) for row in rows if row["subset"] == "all"] == list(zip(names, counts))
    table = make_breakdown_table(rows, "duration")
    assert list(table.columns[0].cells) == names


def test_groups_of_one_name_are_lines_of_their_own():
    rows = break_down(scored([entry(speaker="not stated"), entry()]), "speaker", **HOW)
    table = make_breakdown_table(rows, "speaker")
    assert list(table.columns[0].cells) == ["not stated", "not stated"]
    assert list(table.columns[-1].cells) == ["1", "1"]


def test_no_utterance_has_no_group():
    assert [break_down([], by, **HOW) for by in BY] == [[]] * len(BY)
    assert BY["duration"]([])(scored([entry()])[0]) is None


def test_noise_is_grouped_by_condition_and_by_5_db():
    stated = [("", -40), ("", 0), ("", 4.9), ("", 5), ("", 99), ("babble", 12), ("babble", None), ("clean", None)]
    rows = break_down(scored([entry(noise=noise, snr=snr) for noise, snr in stated]), "noise", **HOW)
    groups = [(row["group"], row["utterances"]) for row in rows if row["subset"] == "all"]
    assert groups == [
        ("below -10 dB", 1),
        ("0 to 5 dB", 2),
        ("5 to 10 dB", 1),
        ("from 30 dB", 1),
        ("babble", 1),
        ("babble 10 to 15 dB", 1),
        ("clean", 1),
    ]


def test_real_and_synthetic_speech_are_apart_where_there_is_both():
    utterances = scored([entry(synthetic=made) for made in (True, False, False, True, False)])
    rows = break_down(utterances, "synthetic", **HOW)
    expected = []
    for name, own in (("real", (1, 2, 4)), ("synthetic", (0, 3))):
        counted = make_rows([utterances[i] for i in own], **HOW)
        expected += [{"by": "synthetic", "group": name, **row} for row in counted]
    assert rows == expected
    assert [one.record().get("synthetic") for one in utterances] == [True, None, None, True, None]
    assert ScoredUtterance.from_record(utterances[0].record()) == utterances[0]
    real = scored([entry()] * 2, split="other")
    assert break_down(real, "synthetic", **HOW) == []
    assert explain_unstated(utterances + real, "synthetic") == [
        "other: no table by synthetic: its source does not state it (manifest key, TFDS feature `synthetic`)"
    ]


def test_what_a_source_does_not_state_is_told():
    some = scored([entry(language="de"), entry(), entry(language="cs")])
    none = scored([entry()] * 2, split="other")
    assert unstated(some + none, "language") == {"test": (1, 3), "other": (2, 2)}
    rows = break_down(some + none, "language", **HOW)
    assert {(row["split"], row["group"]) for row in rows} == {("test", g) for g in ("cs", "de", "not stated")}
    assert rows[-1]["group"] == "not stated"
    assert explain_unstated(some + none, "language") == [
        "test: language is not stated for 1 of 3 utterances (`language`)",
        "other: no table by language: its source does not state it (manifest key, TFDS feature `language`)",
    ]
    assert explain_unstated(some, "duration") == [] and break_down(none, "noise", **HOW) == []


@pytest.mark.parametrize("by", ["speaker", "duration"])
def test_the_table_has_a_line_a_group(by):
    utterances = scored([entry(speaker=name) for name in ("[eva]", "bob", "bob")], [1.0, 2.0, 3.0])
    rows = break_down(utterances, by, **HOW)
    console = rich.console.Console(width=80, record=True, file=io.StringIO())
    console.print(make_breakdown_table(rows, by))
    text = console.export_text()
    for row in rows:
        assert row["group"] in text and f"{100 * row['wer']:.1f}" in text
    assert "text_only %" in text and "…" not in text
    table, _, caption = text.partition("fewer than 20 utterances")
    assert "too few for an interval" in caption
    assert len(table.strip().splitlines()) == 4 + len({row["group"] for row in rows})
    # One utterance has no interval.
    if by == "speaker":
        assert next(line for line in text.splitlines() if "eva" in line).split()[2] == "-"


def test_many_utterances_are_not_too_few():
    utterances = scored([entry(speaker="bob")] * 20)
    assert make_breakdown_table(break_down(utterances, "speaker", **HOW), "speaker").caption is None
    assert make_breakdown_table(break_down(utterances[1:], "speaker", **HOW), "speaker").caption


def test_utterances_of_one_id_are_two():
    """Older evaluations may contain them; both are counted everywhere."""
    from joint_st.reports.report import utterance_facts

    records = [
        one
        for head in ("streaming", "full_context")
        for one in score(["u", "u"], ["a b", "c"], ["a b", head], [1.0, 2.0], split="test", head=head)
    ]
    assert unstated(records, "speaker") == {"test": (2, 2)}
    groups = [row["group"] for row in break_down(records, "duration", normalizer="none v1", step=1)]
    assert len(set(groups)) == 2
    facts = utterance_facts(records)
    assert [(one["reference"], one["heads"]["full_context"]["hypothesis"]) for one in facts] == [
        ("a b", "a b"),
        ("c", "full_context"),
    ]

"""`joint-st score` of whole recordings, whose words are placed by their times: STM and CTM."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from joint_st.cli import main
from joint_st.evaluation.scoring import score_files
from joint_st.evaluation.transcript_files import Said, TranscriptFile
from joint_st.evaluation.transcript_matching import _Segments, by_segment
from tests.evaluation.test_scoring import jsonl, run


def test_white_space_in_names_is_an_underscore_in_a_ctm(tmp_path, capsys):
    """`joint-st transcribe --format ctm` writes it so; the manifest may also name files by their paths."""
    ctm = tmp_path / "hyp.ctm"
    ctm.write_text("a_b 1 0 1 one\na_b 1 1 1 too\nc 1 0 1 three\n")
    named = jsonl(tmp_path / "ref.jsonl", {"c": "three", "a \tb": "one two"})
    audio = jsonl(tmp_path / "audio.jsonl", {"w/c.wav": "three", "w/a b.wav": "one two"}, id_key="audio_filepath")
    for ref in (named, audio):
        [row] = run(ref, ctm, tmp_path=tmp_path)["systems"]
        assert [row[name] for name in ("words", "substitutions", "deletions", "missing")] == [3, 1, 0, 0]
    # The other way round, and with a system whose file has the white space.
    trn = tmp_path / "ref.trn"
    trn.write_text("one two (a_b)\nthree (c)\n")
    heard = jsonl(tmp_path / "hyp.jsonl", {"c": "three", "a b": "one two"})
    assert [row["wer"] for row in run(trn, ctm, heard, tmp_path=tmp_path)["systems"]] == [1 / 3, 0]
    two = jsonl(tmp_path / "two.jsonl", {"a b": "one", "a_b": "two", "c": "three"})
    assert main(["score", str(two), str(ctm)]) == 2
    assert f"{two}: 'a b' and 'a_b' are both a_b in files without white space in ids" in capsys.readouterr().err
    assert run(two, two, tmp_path=tmp_path)["systems"][0]["utterances"] == 3


def test_transcripts_come_through_a_pipe(tmp_path):
    ref, pipe = jsonl(tmp_path / "ref.jsonl", {"a": "one two"}), tmp_path / "hyp"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as writer:
        done = writer.submit(pipe.write_text, "one (a)\n")
        [row] = run(ref, pipe, tmp_path=tmp_path)["systems"]
        done.result(5)
    assert (row["deletions"], row["words"]) == (1, 2)


def test_an_stm_of_ignored_segments_alone_is_refused(tmp_path, capsys):
    ref, hyp = tmp_path / "ref.stm", tmp_path / "hyp.ctm"
    ref.write_text("talk 1 music 0.00 6.00 IGNORE_TIME_SEGMENT_IN_SCORING\n")
    hyp.write_text("other 1 0.1 0.3 we\n")
    assert main(["score", str(ref), str(hyp)]) == 2
    assert f"{ref}: all of its segments are to be ignored" in capsys.readouterr().err


@pytest.mark.parametrize("ignore", ["IGNORE_TIME_SEGMENT_IN_SCORING", "<o,,unknown> ignore_time_segment_in_scoring"])
def test_an_stm_is_scored_by_the_middles_of_words(ignore, tmp_path):
    ref, hyp = tmp_path / "ref.stm", tmp_path / "hyp.ctm"
    ref.write_text(
        ";; comment\n"
        "talk 1 eva 0.00 2.00 <o,f0,female> we said no\n"
        "talk 1 bob 2.00 4.00 <o,f0,male> anna came\n"
        f"talk 1 music 4.00 6.00 {ignore}\n"
        "call A eva 0.00 3.00 one two\n"
        "call B bob 0.00 3.00 three\n"
        "call B bob 3.00 5.00\n"
    )
    hyp.write_text(
        "talk 1 0.1 0.3 we\n"
        "talk 1 1.8 0.6 anna\n"  # its middle, 2.1, is bob's
        "talk 1 1.0 0.4 said 0.7\n"
        "talk 1 4.5 0.2 la\n"  # ignored
        "talk 1 7.0 0.2 la\n"  # ignored is the nearest
        "call A 2.0 0.5 two\n"
        "call A 1.0 0.5 one\n"
        "call B 1.0 0.5 free\n"
        "call B 5.5 0.1 uh\n"  # nearest to the segment in which nothing is said
    )
    [row] = run(ref, hyp, tmp_path=tmp_path)["systems"]
    counts = [row[key] for key in ("deletions", "substitutions", "insertions", "words", "utterances")]
    assert counts == [2, 1, 1, 8, 5], "no, came; three; uh"
    hyp.write_text("talk 1 0.1 0.3 we\n")
    assert main(["score", str(ref), str(hyp)]) == 2
    [row] = run(ref, hyp, "--missing-as-empty", tmp_path=tmp_path)["systems"]
    assert (row["deletions"], row["missing"]) == (7, 3)


def test_an_unknown_word_is_no_label_of_a_segment(tmp_path):
    ref, hyp = tmp_path / "ref.stm", tmp_path / "hyp.ctm"
    ref.write_text("talk 1 eva 0.00 5.00 <unk> hello world\ntalk 1 eva 5.00 9.00 <o,f0,male> hello <unk> world\n")
    hyp.write_text("talk 1 1.0 0.5 hello\ntalk 1 2.0 0.5 world\ntalk 1 6.0 0.5 hello\ntalk 1 7.0 0.5 world\n")
    [row] = score_files(ref, [hyp], normalizer_name="none")["systems"]
    assert (row["words"], row["deletions"], row["substitutions"]) == (6, 2, 0)


def test_a_recording_and_a_channel_of_another_one_do_not_get_one_name(tmp_path, capsys):
    ref, hyp = tmp_path / "ref.ctm", tmp_path / "hyp.ctm"
    ref.write_text("r-A 1 0 1 x\nr A 0 1 y\nr B 0 1 z\n")
    assert main(["score", str(ref), str(ref)]) == 2
    error = capsys.readouterr().err
    assert f"{ref}: r, channel A (line 2) and r-A, channel 1 (line 1) would have the same name, r-A; rename" in error
    assert error.count("\n") == 1
    ref.write_text("r-a 1 0 1 x\nr A 0 1 y\nr B 0 1 z\n")
    hyp.write_text("r-a 1 0 1 x\nr A 0 1 y\nr B 0 1 w\n")
    [row] = run(ref, hyp, tmp_path=tmp_path)["systems"]
    assert (row["utterances"], row["substitutions"]) == (3, 1)


def test_segments_that_differ_by_milliseconds_are_two(tmp_path):
    ref, hyp = tmp_path / "ref.stm", tmp_path / "hyp.ctm"
    ref.write_text("talk 1 eva 0.000 1.001 one two\ntalk 1 bob 0.002 1.004 three\n")
    hyp.write_text("talk 1 0.1 0.1 one\n")
    [row] = run(ref, hyp, tmp_path=tmp_path)["systems"]
    assert [row[name] for name in ("deletions", "words", "utterances")] == [2, 3, 2]


def test_a_channel_that_one_file_alone_has_leaves_the_names_of_the_others(tmp_path, capsys):
    two, one = tmp_path / "two.stm", tmp_path / "one.stm"
    two.write_text("call A eva 0 1 one two\ncall B bob 0 1\n")
    one.write_text("call A eva 0 1 one two\n")
    left, both = tmp_path / "left.ctm", tmp_path / "both.ctm"
    left.write_text("call A 0.1 0.2 one\ncall A 0.5 0.2 two\n")
    both.write_text(left.read_text() + "call B 0.5 0.2 uh\n")
    for ref, hyp, flag, counts in (
        (two, left, "--missing-as-empty", [0, 1, 0]),
        (one, both, "--ignore-others", [0, 0, 1]),
    ):
        assert main(["score", str(ref), str(hyp)]) == 2
        assert "1 id (call-B" in capsys.readouterr().err
        [row] = run(ref, hyp, flag, tmp_path=tmp_path)["systems"]
        assert [row["wer"], row["missing"], row["others"]] == counts
    (tmp_path / "other.ctm").write_text(left.read_text().replace(" A ", " 1 "))
    [row] = run(one, tmp_path / "other.ctm", tmp_path=tmp_path)["systems"]
    assert row["wer"] == 0, "where both have one channel, its name does not matter"


def test_the_segment_of_a_word_is_the_nearest_of_all():
    """Against all segments, in the order of the file; they overlap, and contain each other."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 30):
        starts = rng.integers(0, 40, count) / 2
        spans = dict.fromkeys((start, start + rng.integers(0, 20) / 2) for start in starts)
        segments = [Said("r", f"s{n}", n, *span) for n, span in enumerate(spans, 1)]
        words = [Said("r", f"w{n}", n, time, time) for n, time in enumerate(rng.integers(0, 120, 200) / 4)]
        reference, hypothesis = (
            TranscriptFile(Path("f"), form, "", said) for form, said in (("stm", segments), ("ctm", words))
        )
        expected = {f"r-{one.start:.2f}-{one.end:.2f}": "" for one in segments}
        for word in words:
            away = [
                (max(one.start - word.start, word.start - one.end, 0.0), abs((one.start + one.end) / 2 - word.start))
                for one in segments
            ]
            name = list(expected)[away.index(min(away))]
            expected[name] = f"{expected[name]} {word.text}".strip()
        assert by_segment(reference, hypothesis)[1] == expected


def test_many_words_and_segments_are_matched_in_their_sum(monkeypatch):
    """Not in their product."""
    looked, rank = [], _Segments._rank
    monkeypatch.setattr(_Segments, "_rank", lambda *given: looked.append(0) or rank(*given))
    segments = [Said("r", "", n, 4 * n, 4 * n + 4) for n in range(1000)]
    words = [Said("r", "w", n, n / 2, n / 2 + 0.5) for n in range(8000)]
    files = [TranscriptFile(Path("f"), form, "", said) for form, said in (("stm", segments), ("ctm", words))]
    texts = by_segment(*files)[1]
    assert len(texts) == 1000 and set(texts.values()) == {" ".join(8 * "w")} and len(looked) < 5 * len(words)

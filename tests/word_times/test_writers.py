"""Each format, parsed back."""

import dataclasses
import html
import itertools
import json
import re
from decimal import Decimal

import pytest

from joint_st import storage
from joint_st.errors import UserError
from joint_st.word_times.spans import Aligned, Span
from joint_st.word_times.writers import FORMATS, Destination, cues

WORDS = (Span("we", 0.04, 0.2, 0.75, 0), Span("said", 0.2, 0.48, 0.5, 1), Span("no", 3601.04, 3601.4, 1.0, 2))
WRITTEN = tuple(span._replace(text=text) for span, text in zip(WORDS, ("“We", "<said>", 'no" & -')))
UNITS = (Span("w", 0.04, 0.08, 0.7, 0), Span("i", 0.12, 0.2, 0.8, 0), Span('"', 0.24, 0.28, 0.1, 1))
ONE = Aligned("a b/c", 3601.4375, "we said no", "streaming", -1.25, WORDS, WRITTEN, UNITS)


def write(name, aligned=ONE):
    return FORMATS[name].write(aligned)


def test_json():
    line = write("json")
    assert line.count("\n") == 1
    record = json.loads(line)
    assert {key: record[key] for key in ("id", "seconds", "text", "head", "log_prob")} == {
        "id": "a b/c",
        "seconds": 3601.4375,
        "text": "we said no",
        "head": "streaming",
        "log_prob": -1.25,
    }
    assert record["words"][1] == {"word": "said", "start": 0.2, "end": 0.48, "confidence": 0.5}
    assert record["units"][2] == {"unit": '"', "start": 0.24, "end": 0.28, "confidence": 0.1, "word": 1}
    without = Aligned("x", 1.0, "we", "streaming", 0.0, WORDS[:1], WORDS[:1])
    assert "units" not in json.loads(write("json", without))


def test_ctm():
    rows = [line.split(" ") for line in write("ctm").splitlines()]
    assert [len(row) for row in rows] == [6, 6, 6]
    assert [row[:2] for row in rows] == [["a_b/c", "1"]] * 3
    for row, span in zip(rows, WORDS):
        assert (float(row[2]), float(row[2]) + float(row[3])) == pytest.approx((span.start, span.end))
        assert (row[4], float(row[5])) == (span.text, span.confidence)
    assert {line.split()[1] for line in write("ctm", dataclasses.replace(ONE, channel=2)).splitlines()} == {"2"}


def test_words_that_touch_do_not_overlap_in_a_ctm():
    """Times need not be whole milliseconds: letters share the time of their wordpiece, for instance."""
    times = [0.0406, 0.0812, 0.1218, 0.1624, 0.2031, 0.2437]
    words = tuple(Span(str(n), *pair, 1.0, n) for n, pair in enumerate(itertools.pairwise(times)))
    rows = [line.split() for line in write("ctm", Aligned("x", 1.0, "", "layer 1", None, words, words)).splitlines()]
    assert [row[2] for row in rows] == [f"{start:.3f}" for start in times[:-1]]
    for row, after in itertools.pairwise(rows):
        assert Decimal(row[2]) + Decimal(row[3]) == Decimal(after[2])


def read_textgrid(text):
    """Tiers by name, each its (start, end, text), and the end; every line accounted for."""
    lines = iter(text.splitlines())

    def value(name):
        key, _, value = next(lines).strip().partition(" = ")
        assert key == name, (key, name)
        return value[1:-1].replace('""', '"') if value.startswith('"') else float(value)

    assert value("File type") == "ooTextFile" and value("Object class") == "TextGrid"
    assert next(lines) == ""
    assert value("xmin") == 0
    end = value("xmax")
    assert next(lines) == "tiers? <exists>"
    size, tiers = value("size"), {}
    assert next(lines) == "item []:"
    for item in range(1, int(size) + 1):
        assert next(lines).strip() == f"item [{item}]:"
        assert value("class") == "IntervalTier"
        name = value("name")
        assert (value("xmin"), value("xmax")) == (0, end)
        tiers[name] = []
        for interval in range(1, int(value("intervals: size")) + 1):
            assert next(lines).strip() == f"intervals [{interval}]:"
            tiers[name].append((value("xmin"), value("xmax"), value("text")))
    assert next(lines, None) is None
    return tiers, end


def test_textgrid():
    tiers, end = read_textgrid(write("textgrid"))
    assert end == 3601.4375
    expected = {"words": WORDS, "units": UNITS, "confidence": [w._replace(text=f"{w.confidence:.3f}") for w in WORDS]}
    assert tiers.keys() == expected.keys()
    for name, intervals in tiers.items():
        assert intervals[0][0] == 0 and intervals[-1][1] == end
        assert all(before[1] == after[0] for before, after in zip(intervals, intervals[1:])), "they touch"
        assert all(start < stop for start, stop, _ in intervals)
        assert [x for x in intervals if x[2]] == [(span.start, span.end, span.text) for span in expected[name]]
        assert not any(a[2] == b[2] == "" for a, b in zip(intervals, intervals[1:]))


NO_LENGTH = (Span("a", 0.0, 0.08, 1.0, 0), Span("b", 0.08, 0.08, 0.0, 1), Span("c", 0.08, 0.2, 1.0, 2))
"""Words of which the alignment skips one."""


def test_a_word_without_length_has_no_interval():
    aligned = Aligned("x", 0.2, "a b c", "layer 1", None, NO_LENGTH, NO_LENGTH, NO_LENGTH)
    tiers, _ = read_textgrid(write("textgrid", aligned))
    assert tiers["words"] == tiers["units"] == [(0.0, 0.08, "a"), (0.08, 0.2, "c")]
    rows = [line.split() for line in write("ctm", aligned).splitlines()]
    assert [row[4] for row in rows] == ["a", "b", "c"] and float(rows[1][3]) == 0


def test_time_stamps_of_a_subtitle_rise():
    aligned = Aligned("x", 0.2, "a b c", "layer 1", None, NO_LENGTH, NO_LENGTH, NO_LENGTH)
    assert write("vtt", aligned).splitlines()[2:] == ["00:00:00.000 --> 00:00:00.200", "a <00:00:00.080>b c"]
    alone = Aligned("x", 0.2, "b", "layer 1", None, NO_LENGTH[1:2], NO_LENGTH[1:2])
    assert write("vtt", alone).splitlines()[2:] == ["00:00:00.080 --> 00:00:00.081", "b"]
    assert "00:00:00,080 --> 00:00:00,081" in write("srt", alone)


def seconds(clock):
    hours, minutes, rest = re.fullmatch(r"(\d\d):(\d\d):(\d\d[.,]\d{3})", clock).groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(rest.replace(",", "."))


def test_srt():
    blocks = write("srt").strip("\n").split("\n\n")
    read = [block.split("\n") for block in blocks]
    assert [(number, text) for number, _, text in read] == [("1", "“We <said>"), ("2", 'no" & -')]
    times = [[seconds(clock) for clock in arrow.split(" --> ")] for _, arrow, _ in read]
    assert times == [[0.04, 0.48], [3601.04, 3601.4]]
    assert read[1][1] == "01:00:01,040 --> 01:00:01,400"


def test_vtt():
    head, *blocks = write("vtt").strip("\n").split("\n\n")
    assert head == "WEBVTT"
    times, texts = zip(*(block.split("\n") for block in blocks))
    assert [[seconds(clock) for clock in arrow.split(" --> ")] for arrow in times] == [[0.04, 0.48], [3601.04, 3601.4]]
    first, stamp, second = re.fullmatch(r"([^<]*) <([^>]*)>(.*)", texts[0]).groups()
    assert (first, seconds(stamp), html.unescape(second)) == ("“We", 0.2, "<said>")
    assert second == "&lt;said&gt;" and texts[1] == 'no" &amp; -'


def test_subtitles_are_short():
    words = [Span("word" * 3, 0.5 * k, 0.5 * k + 0.4, 1.0, k) for k in range(40)]
    found = list(cues(words))
    assert [word for cue in found for word in cue] == words
    assert max(len(" ".join(w.text for w in cue)) for cue in found) <= 42
    assert len(list(cues([words[0], words[20]]))) == 2, "a pause"
    slow = [Span("a", 2.0 * k, 2.0 * k + 1.9, 1.0, k) for k in range(9)]
    assert max(cue[-1].end - cue[0].start for cue in cues(slow)) <= 6


def test_destinations(tmp_path, capsys):
    other = Aligned("d", 0.5, "we", "streaming", 0.0, WORDS[:1], WORDS[:1])
    Destination("ctm", None, "mine").write([ONE, other])
    assert capsys.readouterr().out == write("ctm") + write("ctm", other)
    Destination("json", tmp_path, "mine").write([ONE, other])
    assert (tmp_path / "mine.jsonl").read_text() == write("json") + write("json", other)
    Destination("srt", tmp_path / "new" / "subtitles", "mine").write([ONE, other])
    files = {file.name: file.read_text() for file in (tmp_path / "new" / "subtitles").iterdir()}
    assert files == {"a b_c.srt": write("srt"), "d.srt": write("srt", other)}
    Destination("vtt", tmp_path / "one.vtt").write([other])
    assert (tmp_path / "one.vtt").read_text() == write("vtt", other)
    Destination("textgrid", tmp_path).write([other])
    assert (tmp_path / "d.TextGrid").read_text() == write("textgrid", other)
    with pytest.raises(UserError, match="name a folder with --output"):
        Destination("srt", None, "mine")
    with pytest.raises(UserError, match="one.vtt: a file; --format vtt writes a file for each"):
        Destination("vtt", tmp_path / "one.vtt", "mine")
    with pytest.raises(UserError, match="the file of both 'a b/c' and 'a b_c'"):
        Destination("srt", tmp_path, "mine").write([ONE, Aligned("a b_c", 1.0, "", "streaming", 0.0, (), ())])


def test_ids_that_one_name_stands_for_in_a_ctm_are_refused(tmp_path):
    """Their words would be those of one utterance."""
    ids = ["a b", "c", "a_b"]
    for output in (None, tmp_path / "one.ctm"):
        with pytest.raises(UserError, match="^a_b: would be the name in the CTM of both 'a b' and 'a_b'; give the"):
            Destination("ctm", output, "mine").check(ids)
    Destination("ctm", None, "mine").check(ids[:2])
    Destination("json", None, "mine").check(ids)


def test_a_link_is_followed_where_a_user_names_it_and_not_where_an_utterance_does(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for name in ("named.srt", "a b_c.srt"):
        (tmp_path / name).symlink_to("mine")
    Destination("srt", tmp_path, "test").write([ONE])
    assert not (tmp_path / "a b_c.srt").is_symlink() and (tmp_path / "mine").read_text() == "mine"
    Destination("srt", tmp_path / "named.srt").write([ONE])
    assert (tmp_path / "named.srt").is_symlink() and (tmp_path / "mine").read_text() == write("srt")


def test_a_file_does_not_keep_an_earlier_result(tmp_path):
    """Where no utterance can be aligned, what is there is of another run."""
    file = tmp_path / "out.jsonl"
    Destination("json", file, "test").write([ONE])
    assert file.read_text() == write("json")
    Destination("json", file, "test").write([])
    assert file.read_text() == ""
    Destination("srt", tmp_path / "folder", "test").write([])
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_long_id_has_a_file_of_its_own(tmp_path):
    """File systems take names of up to 255 bytes."""
    ones = [dataclasses.replace(ONE, id="é" * 150 + ending) for ending in ("1", "2")]
    Destination("srt", tmp_path, "test").write(ones)
    assert len(list(tmp_path.glob("é*.srt"))) == 2


@pytest.mark.parametrize("form, names", [("json", ["out"]), ("srt", ["out/a b_c.srt"])])
def test_into_a_bucket(form, names, cloud, bucket):
    Destination(form, storage.path(f"gs://{bucket}/out"), "test").write([ONE])
    assert cloud.names(bucket) == names
    assert cloud.text(bucket, names[0]) == write(form)


def test_a_textgrid_of_no_samples_has_a_length():
    """Praat opens none without."""
    lines = [line.strip() for line in write("textgrid", Aligned("x", 0.0, "", "streaming", 0.0, (), ())).splitlines()]
    assert lines.count("xmax = 0.000100") == 5 and "xmax = 0.000000" not in lines

"""The data of the page: its texts, curves, sounds and images, and that no text can break it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
import soundfile

from joint_st.data.scripts import tokens_of
from joint_st.evaluation.report import score
from joint_st.losses.base import Column
from joint_st.reports.charts import MOST_POINTS, layer_charts, training_charts
from joint_st.reports.page import make_page
from joint_st.reports.report import add_samples, choose, utterance_facts
from joint_st.reports.samples import layer_maps, sound, words
from joint_st.training.asr import COLUMNS
from joint_st.word_times.spans import Aligned, Span
from tests.reports.sample import HOSTILE, RATE, content, example, sample, scored


@pytest.fixture
def data(tmp_path):
    return content(tmp_path)


class Page(HTMLParser):
    """The elements of a page, and what its scripts hold, as a browser would split them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.scripts, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, text):
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += text


def test_a_hostile_transcript_stays_data(data):
    data["title"] = HOSTILE
    text = make_page(data)
    page = Page(text)
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["utterances"][0]["reference"] == f"{HOSTILE} anna"
    assert "alert" not in "".join(page.scripts[1:])


@pytest.mark.skipif(not shutil.which("node"), reason="no node to run a script of the page")
def test_the_page_has_the_words_that_the_edits_are_of():
    """A byte order mark in the middle of a text is white space to JavaScript, and a letter of a word to Python."""
    reference, hypothesis = "so \ufeffan\ufeffna calls", "so anna calls"
    [one] = score(["u"], [reference], [hypothesis], [1.0], split="test", head="streaming")
    [facts] = utterance_facts([one])
    script = (files("joint_st.reports") / "page" / "edits.js").read_text()
    program = (
        f"const data = {{text_only: []}};{script};console.log(JSON.stringify(steps({json.dumps(facts)}, 'streaming')))"
    )
    found = json.loads(subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True).stdout)
    assert [(step["reference"], step["hypothesis"]) for step in found] == [op[1:] for op in one.ops]
    assert [step["reference"] for step in found] == reference.split()


def test_a_template_name_in_a_transcript_stays_text(data):
    data["utterances"][1]["reference"] = "{{style}}"
    assert json.loads(Page(make_page(data)).scripts[0])["utterances"][1]["reference"] == "{{style}}"


def test_nothing_is_fetched(data):
    text = make_page(data)
    page = Page(text)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text


def test_edits_are_those_counted():
    found = scored(12)
    facts = {one["id"]: one for one in utterance_facts(found)}
    kinds = set()
    for one in found:
        edits = facts[one.id]["heads"][one.head]["edits"]
        kinds |= set(edits)
        errors = one.errors["all"]
        assert [edits.count(kind) for kind in "ids"] == [errors.insertions, errors.deletions, errors.substitutions]
        assert len(edits) - edits.count("i") == len(one.reference.split())
        assert len(edits) - edits.count("d") == len(one.hypothesis.split())
    assert kinds == set("=ids")


def test_groups_of_utterances_are_those_of_the_breakdowns(data):
    tables = {table["by"]: table["rows"] for table in data["breakdowns"]}
    assert set(data["utterances"][0]["groups"]) == {"speaker", "language", "duration"}
    assert tables["noise"] == []
    for by in ("speaker", "duration"):
        counts = {row["group"]: row["utterances"] for row in tables[by] if row["head"] == "streaming"}
        found = [one["groups"][by] for one in data["utterances"]]
        whole = {row["group"]: row["utterances"] for row in tables[by] if row["subset"] == "all"}
        assert set(counts) == set(found)
        assert whole == {group: found.count(group) for group in whole}


def test_only_words_that_occur_are_listed_as_only_read(data):
    assert data["text_only"] == ["riga"]


def test_words_are_those_confused_and_missed_under_each_head(data):
    heard = data["words"]["full_context"]["confusions"]
    assert [(row["reference"], row["hypothesis"]) for row in heard][0] == ("anna", "hanna")
    missed = {row["word"]: row["missed"] for row in data["words"]["full_context"]["missed"]}
    deleted = [one for one in scored(60) if one.head == "full_context" and one.errors["all"].deletions]
    assert missed["boris"] == sum(one.reference.endswith("boris") for one in deleted) > 0


def test_the_worst_and_the_evenly_spread_are_chosen_in_turn():
    errors = [0, 5, 0, 0, 9, 0, 0, 7, 0, 0]
    assert choose(errors, 4) == [4, 0, 7, 3]
    assert choose(errors, 3) == [4, 0, 7]
    assert sorted(choose(errors, 50)) == list(range(10))
    assert choose([1], 1) == [0]


def test_training_curves_are_the_columns_with_numbers(tmp_path):
    steps = range(1, 2 * MOST_POINTS + 1)
    lines = [f"{step},{1 / step!r},,{'nan' if step == 3 else step}\n" for step in steps]
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,unit_ctc,coverage\n" + "".join(lines) + "2000,,0.5,\n")
    columns = (*COLUMNS, Column("unit_ctc", "CTC of speech"), Column("coverage"), Column("unmatched", kind="count"))
    charts = {chart["title"]: chart["series"] for chart in training_charts(path, columns)}
    assert set(charts) == {"Loss, all objectives", "CTC of speech", "Coverage"}
    assert [one["name"] for one in charts["CTC of speech"]] == ["unit"]
    assert charts["CTC of speech"][0]["points"] == [[2000, 0.5]]
    loss = charts["Loss, all objectives"][0]["points"]
    assert len(loss) == MOST_POINTS and loss[-1] == [2000, 0.0005]
    assert all(value == pytest.approx(1 / step, rel=1e-4) for step, value in loss)
    assert training_charts(tmp_path / "none.csv", columns) == []


def test_wer_is_shown_in_per_cent(data):
    chart = next(chart for chart in data["training"] if "Word error rate" in chart["title"])
    assert chart["unit"] == "%" and chart["series"] == [{"name": "streaming", "points": [[20, 25.0]]}]


def test_layer_curves_leave_out_what_is_not_known():
    kinds = "best", "frame_wise", "random", "wrong_text"
    ways = "audio_to_text", "text_to_audio"
    row = {f"relative_{kind}": 0.5 for kind in kinds} | {f"{kind}_boundary_ms": None for kind in kinds[:3]}
    row |= {f"{way}_recall_{k}": 0.25 for way in ways for k in (1, 10)} | {"utterances": 8}
    charts = layer_charts([row | {"layer": "encoders"}, row | {"layer": "streaming 1", "relative_wrong_text": None}])
    assert [chart["title"] for chart in charts] == ["Distance of speech and text", "Retrieval among 8"]
    assert charts[0]["labels"] == ["encoders", "streaming 1"]
    assert charts[0]["series"][3]["points"] == [[0, 0.5]]
    assert charts[1]["series"][0]["points"] == [[0, 25.0], [1, 25.0]]


def test_words_of_a_sample_are_what_stands_between_spaces():
    spans = tuple(
        Span(text, k, k + 0.5, 0.2 * k, k, joined) for k, (text, joined) in enumerate(tokens_of("\u4f60\u597d ok"))
    )
    found = words(Aligned("x", 3.0, "\u4f60\u597d ok", "streaming", -0.1, spans, spans))
    assert found == {"words": [[0, 1.5, 0.1], [2, 2.5, 0.4]], "head": "streaming"}


def test_sound_is_lossless():
    audio = np.random.default_rng(0).integers(-3000, 3000, 5000).astype(np.int16)
    found = sound(audio, RATE)
    kind, _, encoded = found["audio"].partition(",")
    read, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="int16")
    assert kind == "data:audio/flac;base64" and rate == RATE
    np.testing.assert_array_equal(read, audio)
    assert max(found["outline"]) == 100 and found["seconds"] == 5000 / RATE


@pytest.mark.parametrize("audio", [np.zeros(100, np.int16), np.zeros(0, np.int16)])
def test_silence_has_an_outline(audio):
    assert set(sound(audio, RATE)["outline"]) == {0}
    for rate in (65_537, 1_000_000):  # which FLAC does not have
        assert sound(np.ones(rate // 10, np.int16), rate)["seconds"] == pytest.approx(0.1, abs=1e-4)


def test_map_has_time_to_the_right_and_text_upwards(tmp_path):
    import matplotlib.image

    maps = layer_maps(example("anna met boris"))
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(maps["layers"][0]["image"].partition(",")[2])))
    assert image.shape == (maps["text_frames"], maps["frames"]) == (3, 6)
    # Nearest, and so black, where frame and unit belong together: from the lower left to the upper right.
    np.testing.assert_array_equal(image.argmin(axis=0), [2, 2, 1, 1, 0, 0])
    assert maps["units"] == [[0.5, "a"], [1.5, "b"], [2.5, "c"]]
    assert maps["words"] == [(0, 1), (1, 2), (2, 3)]


def test_samples_are_added_as_long_as_the_page_stays_below_its_size(data):
    own = {one["id"]: sample(one["reference"]) for one in data["utterances"][1:9]}
    empty = len(make_page(data).encode())
    most = empty + 60_000
    added = add_samples(data, own, most)
    assert 0 < added < len(own)
    assert len(make_page(data).encode()) <= most
    names = [one["id"] for one in data["utterances"] if "sample" in one]
    assert len(names) == added and names == [name for name in own if name in names]
    for name in own.keys() - names:  # none of the others has room
        assert len(make_page(data).encode()) + len(own[name]["audio"]) > most
    assert add_samples(content_again(data), own, empty) == 0
    # One that does not fit leaves room for those after it.
    first = next(iter(own))
    large = own | {first: {**own[first], "audio": "x" * most}}
    assert add_samples(content_again(data), large, most) > 0
    assert "sample" not in data["utterances"][1] and "sample" in data["utterances"][2]


def content_again(data):
    for one in data["utterances"]:
        one.pop("sample", None)
    return data

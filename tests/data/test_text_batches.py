"""Units that come with labels, and batches of text alone, are compared with their sources."""

import itertools

import numpy as np
import pytest

from joint_st.config import DataConfig, FeaturesConfig, ManifestSource, TextSource, TfdsSource, UnitsConfig
from joint_st.data.dataset import open_paired, open_texts
from joint_st.data.loader import BatchLoader, batches
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import text_plan, training_plan
from joint_st.data.sources import open_source
from joint_st.data.text_units import make_units
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError
from tests.data.test_loader import assert_equal, assert_together

FEATURES = FeaturesConfig()
ENGLISH = normalizer("english")
CHARACTERS = Characters(" 'abcdefghijklmnopqrstuvwxyz")


def open_all(corpora, units=None, **fields):
    """Return the tiny corpus with phonemes: paired data, its plan, and text-only data with its plan."""

    def split(name):
        return TfdsSource(name="spoken_grammar/tiny", split=name, data_dir=str(corpora))

    fields = {"batch_size": 4, "buckets": 2, "text_batch_size": 6, "text_buckets": 2, **fields}
    data = DataConfig(train=(split("train"),), text=(split("text"),), **fields)
    entries = [open_source(source).entry(i) for source in (*data.train, *data.text) for i in range(24)]
    examples = [(ENGLISH(entry.text), entry.language) for entry in entries]
    units = units or make_units(UnitsConfig(kind="phonemes"), examples)
    prepared = open_paired(data.train, data, FEATURES, ENGLISH, CHARACTERS, units, training=True)
    texts = open_texts(data, ENGLISH, CHARACTERS, units)
    return prepared, training_plan(prepared, data, 3), (texts, text_plan(texts, data, 3))


@pytest.fixture(scope="module")
def ready(corpora):
    return open_all(corpora)


def take(prepared, plan, text, count, **options):
    return list(itertools.islice(batches(prepared, plan, text=text, read_threads=3, prefetch=2, **options), count))


def test_paired_rows_hold_the_units_and_their_true_times(ready):
    prepared, plan, _ = ready
    units = prepared.units
    assert prepared.unit_lengths.dtype == np.int32 and len(plan.buckets.unit_bounds) == len(plan.buckets)
    for i, one in enumerate(take(prepared, plan, None, plan.steps_per_epoch)):
        assert one.arrays.keys() == {"paired"}
        batch = one.arrays["paired"]
        assert batch["units"].shape == batch["unit_ends"].shape
        assert batch["units"].shape[1] == plan.buckets.unit_bounds[plan[i].bucket]
        for b in np.flatnonzero(batch["valid"]):
            n = int(one.rows["paired"][b])
            size, utterance = batch["unit_lengths"][b], prepared.utterance(n)
            assert size == prepared.unit_lengths[n] and not batch["units"][b, size:].any()
            np.testing.assert_array_equal(batch["units"][b, :size], units.encode(prepared.text(n), utterance.language))
            ends, words = batch["unit_ends"][b], units.words(prepared.text(n), utterance.language)
            assert (np.diff(ends[:size]) >= 0).all() and not ends[size:].any()
            for word, stop in enumerate(utterance.word_times[1]):  # 25 frames a second
                assert ends[np.flatnonzero(words == word)[-1]] == pytest.approx(stop * 25, abs=0.51)
            assert batch["has_durations"][b] and batch["unit_frames_needed"][b] == prepared.unit_frames_needed[n]
        assert not batch["units"][~batch["valid"]].any()


def test_batches_of_text_hold_what_their_plan_says(ready):
    prepared, plan, (texts, second) = ready
    seen = []
    for i, one in enumerate(take(prepared, plan, (texts, second), second.steps_per_epoch)):
        bucket, rows = second[i]
        batch = one.arrays["text"]
        assert one.shape.text == bucket
        np.testing.assert_array_equal(one.rows["text"], rows)
        np.testing.assert_array_equal(batch["valid"], rows >= 0)
        assert batch["units"].shape == (len(rows), second.buckets.unit_bounds[bucket])
        assert batch["labels"].shape == (len(rows), second.buckets.label_bounds[bucket])
        for b, n in enumerate(rows):
            example = texts.load(int(n)) if n >= 0 else None
            for name in ("unit", "label"):
                row = getattr(example, f"{name}s") if example else []
                assert batch[f"{name}_lengths"][b] == len(row)
                np.testing.assert_array_equal(batch[f"{name}s"][b, : len(row)], row)
                assert not batch[f"{name}s"][b, len(row) :].any()
            if n >= 0:
                entry = texts.corpus.entry(int(texts.rows[n]))
                assert CHARACTERS.decode(example.labels) == entry.text and not len(example.audio)
                assert (len(example.units), len(example.labels)) == (texts.unit_lengths[n], texts.label_lengths[n])
        seen += rows[rows >= 0].tolist()
    assert sorted(seen) == list(range(len(texts))) == list(range(40))
    assert all(bound % 8 == 0 for bound in second.buckets.unit_bounds)


def test_a_batch_is_a_function_of_its_number(ready):
    prepared, plan, text = ready
    one = take(prepared, plan, text, 12)
    assert_equal(take(prepared, plan, text, 4, start=8), one[8:])
    loader = BatchLoader(prepared, plan, text=text)
    assert_equal([loader(i) for i in range(12)], one)
    parts = [take(prepared, plan, text, 12, parts=((p,), 2)) for p in range(2)]
    assert_together(one, parts)
    with pytest.raises(UserError, match="data.text_batch_size: batches of 6 do not divide into 4 parts"):
        take(prepared, plan, text, 1, parts=((0,), 4))


def test_the_plan_of_texts_draws_otherwise_than_that_of_utterances(ready):
    _, _, (texts, plan) = ready
    data = DataConfig(train=(ManifestSource(path="unread"),), text_batch_size=6, text_buckets=2)
    again, other = text_plan(texts, data, 3), text_plan(texts, data, 4)
    paired = type(plan)(texts.unit_lengths, plan.buckets, seed=3, shuffle=True)
    rows = [np.concatenate([plan[i].rows for i in range(7)]).tolist() for plan in (plan, again, other, paired)]
    assert rows[0] == rows[1] and rows[0] != rows[2] and rows[0] != rows[3]


def test_texts_come_from_any_source_and_audio_is_not_touched(tmp_path):
    (tmp_path / "a.txt").write_text("one two\n!!\nthree\n")
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "absent.wav", "text": "Drei", "language": "de"}\n')
    sources = (TextSource(path=str(tmp_path / "a.txt")), ManifestSource(path=str(tmp_path / "m.jsonl")))
    data = DataConfig(train=sources[1:], text=sources, text_batch_size=2)
    units = make_units(UnitsConfig(kind="phonemes"), [("one two three", "en"), ("drei", "de")])
    texts = open_texts(data, normalizer("basic"), CHARACTERS, units)
    spelled = ["".join(units.symbols[i] for i in texts.load(n).units) for n in range(len(texts))]
    assert spelled == ["wʌn tuː", "θɹiː", "dɾaɪ"]  # the last in its own language
    assert texts.dropped == {"empty": 1} and texts.unit_lengths.tolist() == [6, 3, 3]
    assert texts.describe() == "3 texts, 4.0 text units each; dropped 1 empty"
    assert [texts.id(n) for n in range(3)] == ["a-0", "a-2", "absent"]
    (tmp_path / "a.txt").write_text("!!\n?\n")
    with pytest.raises(UserError, match=r"data.text: no text of a is left \(2 empty\)"):
        open_texts(data.model_copy(update={"text": sources[:1]}), normalizer("basic"), CHARACTERS, units)


def test_many_texts_are_counted_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("joint_st.data.index.TOGETHER", 3)
    lines = ["abcdefgh"[: i % 5 + 1] for i in range(11)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    source = TextSource(path=str(tmp_path / "a.txt"))
    data = DataConfig(train=(source,), text=(source,), text_batch_size=2)
    units = make_units(UnitsConfig(kind="characters"), [(line, "") for line in lines])
    texts = open_texts(data, ENGLISH, CHARACTERS, units)
    assert texts.unit_lengths.tolist() == texts.label_lengths.tolist() == [i % 5 + 1 for i in range(11)]


def test_long_texts_are_left_out_and_long_transcripts_leave_their_audio(corpora, ready):
    paired, _, (texts, _) = ready
    most = int(np.median(paired.unit_lengths))
    prepared, plan, (short, _) = open_all(corpora, paired.units, max_text_units=most)
    left = paired.unit_lengths <= most
    np.testing.assert_array_equal(prepared.unit_lengths, np.where(left, paired.unit_lengths, 0))
    assert f"; {np.count_nonzero(~left)} without losses on their text" in prepared.describe()
    assert max(plan.buckets.unit_bounds) < most + 8
    for one in take(prepared, plan, None, plan.steps_per_epoch):
        batch = one.arrays["paired"]
        filled = batch["unit_lengths"] > 0
        np.testing.assert_array_equal(filled[batch["valid"]], left[one.rows["paired"][batch["valid"]]])
        assert not batch["units"][~filled].any() and not batch["unit_ends"][~filled].any()
    assert short.dropped == {"too long": int((texts.unit_lengths > most).sum())}
    np.testing.assert_array_equal(short.unit_lengths, texts.unit_lengths[texts.unit_lengths <= most])


def test_text_comes_later_where_it_is_asked_to(ready):
    prepared, plan, text = ready
    for start in (0, 2):
        found = take(prepared, plan, text, 6 - start, text_from=3, start=start)
        assert [batch.number for batch in found] == list(range(start, 6))
        for batch in found:
            np.testing.assert_array_equal(batch.rows["paired"], plan[batch.number].rows)
            if batch.number < 3:
                assert batch.arrays.keys() == {"paired"} and batch.shape.text is None
            else:
                np.testing.assert_array_equal(batch.rows["text"], text[1][batch.number - 3].rows)


def test_text_comes_first_where_it_is_asked_to(ready):
    prepared, plan, text = ready
    for start in (0, 2):
        found = take(prepared, plan, text, 6 - start, text_first=3, start=start)
        assert [batch.number for batch in found] == list(range(start, 6))
        for batch in found:
            np.testing.assert_array_equal(batch.rows["text"], text[1][batch.number].rows)
            if batch.number < 3:
                assert batch.arrays.keys() == {"text"} and batch.shape.paired is None
            else:
                np.testing.assert_array_equal(batch.rows["paired"], plan[batch.number - 3].rows)

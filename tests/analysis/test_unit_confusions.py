"""Counts of the units that CTC recognises, by the best alignment with those said, and what is read out of both."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import soundfile
from rapidfuzz.distance import Levenshtein

from joint_st.analysis import reading
from joint_st.analysis.confusions import collapsed, count_confusions, make_table, recognise_units
from joint_st.analysis.reading import compare_readings, read_units, with_boundaries
from joint_st.cli import main
from joint_st.config import ManifestSource
from joint_st.data.dataset import open_paired
from joint_st.errors import UserError
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.passes import FULL_CONTEXT
from joint_st.runs.trained import load_trained
from tests.tiny import tiny_config, untrained_run

SYMBOLS = ("<pad>", "<unk>", "a", "b", "c", "d")


def test_counts_are_those_of_the_best_alignment():
    """By hand: b heard as d, c missed, a b inserted; then nothing of two; then two of nothing."""
    found = count_confusions([([2, 3, 2, 4, 5, 2, 5], [2, 5, 2, 5, 2, 5, 3]), ([3, 3], []), ([], [4, 4])], SYMBOLS)
    expected = np.zeros((6, 6), int)
    expected[2, 2], expected[3, 5], expected[4, 0], expected[5, 5], expected[3, 0] = 3, 1, 1, 2, 2
    np.testing.assert_array_equal(found.heard, expected)
    assert found.inserted.tolist() == [0, 0, 0, 1, 2, 0]
    assert (found.units, found.substitutions, found.deletions, found.insertions) == (9, 1, 3, 3)
    assert found.error_rate == pytest.approx(7 / 9)
    table = make_table(found, "of two")
    assert "9 units, 77.8% errors: sub 11.1%, del 33.3%, ins 33.3%" in table.title
    assert list(table.columns[0].cells)[:2] == ["b", "b"] and list(table.columns[1].cells)[0] == "(nothing)"


def test_ctc_emits_a_unit_once_until_it_changes_or_a_blank_comes():
    assert collapsed(np.array([0, 2, 2, 0, 2, 3, 3, 0, 0])) == [2, 2, 3]
    assert collapsed(np.zeros(3, int)) == []


def check_readings(trained):
    """Each text alone, without padding, and each frame's likeliest label; of speech, the same from its audio."""
    made_with = trained.normalizer, trained.tokenizer, trained.units
    config = trained.config
    dataset = open_paired(config.data.dev, config.data, config.model.features, *made_with, training=False)
    structure, mean = (
        model_structure(config, trained.symbols.sizes),
        (config.text.repeat_least + config.text.repeat_most) // 2,
    )

    def labels(model, encoded):
        """The labels of the head that learns to read text, the full-context one."""
        likeliest = np.argmax(model.head(FULL_CONTEXT)(encoded.full_context)[0], axis=-1)
        return collapsed(likeliest[np.asarray(encoded.mask[0])])

    def read_alone(model, row):
        x, mask, _ = model.encode_text(np.array([row]), np.full((1, len(row)), mean), mean * len(row))
        return labels(model, model.shared(x, mask))

    def rate(heard, found):
        """Word errors of texts found, for each word said."""
        pairs = [
            (dataset.text(one.index).split(), trained.tokenizer.decode(own).split()) for one, own in zip(heard, found)
        ]
        return sum(Levenshtein.distance(*pair) for pair in pairs) / sum(len(said) for said, _ in pairs)

    with jax.set_mesh(trained.mesh):
        model = merge(structure, trained.weights)
        assert {name: [row.tolist() for row in rows] for name, rows in read_units(trained, [[], []]).items()} == {
            FULL_CONTEXT: [[], []]
        }
        several = [[2, 3, 4, 5, 2], [], [3], [5, 4] * 20] * config.evaluation.batch_size
        found = read_units(trained, several)
        assert list(found) == [FULL_CONTEXT] and len(found[FULL_CONTEXT]) == len(several)
        for row, own in zip(several[:4], found[FULL_CONTEXT][-4:]):
            assert own.tolist() == (read_alone(model, row) if row else [])
        heard = list(recognise_units(trained, dataset, "dev"))
        assert sorted(one.index for one in heard) == list(range(len(dataset)))
        one = heard[0]
        audio = dataset.load(one.index).audio
        whole = np.pad(audio, (0, -len(audio) % config.model.features.samples_per_frame))
        expected = labels(model, model(whole[None], np.array([len(audio)])))
        assert {name: own.tolist() for name, own in one.labels.items()} == {FULL_CONTEXT: expected}
        assert one.said == dataset.load(one.index).units.tolist()
        speech, *_ = compare_readings(trained, dataset, heard)
        assert speech.rates == {FULL_CONTEXT: pytest.approx(rate(heard, [own.labels[FULL_CONTEXT] for own in heard]))}

        def read(_, rows):
            """Reads what was said rightly, and nothing out of other units."""
            by_units = {tuple(own.said): trained.tokenizer.encode(dataset.text(own.index)) for own in heard}
            return {FULL_CONTEXT: [by_units.get(tuple(row), np.zeros(0, np.int32)) for row in rows]}

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reading, "read_units", read)
            # Of the first half, what was said is recognised; of the others, nothing.
            half = len(heard) // 2
            heard = [own._replace(units=own.said if n < half else []) for n, own in enumerate(heard)]
            _, recognised, _, _, said = compare_readings(trained, dataset, heard)
    words = [len(dataset.text(own.index).split()) for own in heard]
    assert (said.what, said.rates, set(said.subsets[FULL_CONTEXT].values())) == ("said", {FULL_CONTEXT: 0}, {0})
    assert recognised.rates == {FULL_CONTEXT: pytest.approx(sum(words[half:]) / sum(words))}
    subset_of = trained.vocabulary.subset_of
    kinds = [[subset_of(word) for word in dataset.text(own.index).split()] for own in heard]
    for kind, found in recognised.subsets[FULL_CONTEXT].items():
        missed, there = (sum(own.count(kind) for own in rows) for rows in (kinds[half:], kinds))
        assert found == pytest.approx(missed / there)
    assert set(recognised.subsets[FULL_CONTEXT]) == {kind for own in kinds for kind in own if kind}


@pytest.mark.parametrize(
    ("units", "other", "expected"),
    [
        ("abc def", "abc def", "abc def"),
        ("abc def", "abcdef", "abcdef"),
        ("abcdef", "abc def", "abc def"),
        ("abc def", "ab cxdef", "ab cdef"),  # one missed, one where none is
        ("abc def", "xbc f", "abc def"),
        ("", " ", " "),
        ("ab", "", "ab"),
    ],
)
def test_boundaries_of_one_in_the_other(units, other, expected):
    found = with_boundaries([ord(one) for one in units], [ord(one) for one in other], ord(" "))
    assert "".join(map(chr, found)) == expected


@pytest.mark.slow
def test_a_run_counts_its_dev_set(corpora, tmp_path, capsys):
    joint = {
        "data.units.kind": "characters",
        "data.text_batch_size": 4,
        "losses.unit_ctc.weight": 0.3,
        "losses.reconstruction.full_context": 0.5,
    }
    run = untrained_run(tiny_config(corpora, joint), tmp_path / "run")
    assert main(["confusions", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "counts in" in printed and "its units as said, as text" in printed
    content = json.loads((run / "confusions.json").read_text())
    assert list(content["wer"]) == list(content["wer_of_subsets"]) == list(reading.READ)
    trained = load_trained(run)
    assert content["units"] == list(trained.units.symbols) and content["made_by"]["split"] == "dev"
    check_readings(trained)
    said = sum(sum(row.values()) for row in content["heard_as"].values()) + sum(content["missed"].values())
    assert said > 0
    alone = untrained_run(
        tiny_config(corpora, {**joint, "losses.reconstruction.paired": 0, "data.text_batch_size": 0}),
        tmp_path / "alone",
    )
    assert main(["confusions", str(alone)]) == 0
    assert "what is read" not in capsys.readouterr().out
    assert json.loads((alone / "confusions.json").read_text())["wer"] == {}
    plain = untrained_run(tiny_config(corpora, {"data.units.kind": "characters"}), tmp_path / "plain")
    assert main(["confusions", str(plain)]) == 2
    assert "losses.unit_ctc.weight is 0" in capsys.readouterr().err


@pytest.mark.slow
def test_recordings_longer_than_a_window_are_left_out(corpora, spoken, tmp_path, caplog):
    made = {"data.units.kind": "characters", "losses.unit_ctc.weight": 0.3}
    trained = load_trained(untrained_run(tiny_config(corpora, made), tmp_path / "run"), "latest")
    rows = [json.loads(line) for line in (spoken / "test.jsonl").read_text().splitlines()]
    seconds = trained.config.window_seconds
    soundfile.write(tmp_path / "long.wav", np.zeros(round(16_000 * (seconds + 1)), np.int16), 16_000)
    rows = [{**row, "audio_filepath": str(spoken / row["audio_filepath"])} for row in rows[:2]]
    long = {"id": "long", "audio_filepath": "long.wav", "duration": seconds + 1, "text": "one"}
    for name, chosen in {"some": [long, *rows], "all": [long]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))

    def dataset(name):
        source = ManifestSource(path=str(tmp_path / f"{name}.jsonl"))
        made_with = trained.normalizer, trained.tokenizer, trained.units
        return open_paired([source], trained.config.data, trained.config.model.features, *made_with, training=False)

    with jax.set_mesh(trained.mesh):
        assert sorted(one.index for one in recognise_units(trained, dataset("some"), "some")) == [1, 2]
        assert f"some: left out 1 of 3 utterances, longer than {seconds:g} s" in caplog.text
        with pytest.raises(UserError, match=f"^all: all utterances are longer than {seconds:g} s"):
            list(recognise_units(trained, dataset("all"), "all"))

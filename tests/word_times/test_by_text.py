"""Alignment to the text's embeddings, against the best of all alignments by hand."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile
from flax import nnx

from joint_st.cli import main
from joint_st.config import override
from joint_st.data.text_units.units import Spelling
from joint_st.errors import UserError
from joint_st.heads.model import init_weights, model_structure
from joint_st.runs.trained import load_trained
from joint_st.word_times import align
from joint_st.word_times.boundaries import make_rows
from joint_st.word_times.by_text import EmbeddingAligner, frames_of_units
from joint_st.word_times.spans import Aligned, Span, every_word, unit_spans
from joint_st.word_times.text import OnePair


@pytest.fixture(scope="module")
def joint(trained):
    """A run's model with characters as text units, and weights that are not trained."""
    model = load_trained(trained)
    changes = {"data.units.kind": "characters", "losses.consistency.alignment": "skip", "text.repetition": "none"}
    config = override(model.config, changes)
    symbols = dataclasses.replace(model.symbols, units=Spelling(model.tokenizer))
    weights = jax.jit(lambda: init_weights(config, symbols.sizes, 0))()
    return dataclasses.replace(model, config=config, symbols=symbols, weights=weights)


def best_by_hand(costs: np.ndarray) -> np.ndarray:
    """Return the text position of each frame under the cheapest path from the first to the last, any step forward; O(T
    U²)."""
    frames, positions = costs.shape
    total, came = np.full((frames, positions), np.inf), np.zeros((frames, positions), int)
    total[0, 0] = costs[0, 0]
    for t in range(1, frames):
        for u in range(positions):
            came[t, u] = np.argmin(total[t - 1, : u + 1])
            total[t, u] = total[t - 1, came[t, u]] + costs[t, u]
    path = [positions - 1]
    for t in range(frames - 1, 0, -1):
        path.append(came[t, path[-1]])
    return np.array(path[::-1])


def test_words_are_where_the_cheapest_alignment_has_them(joint, spoken):
    line = json.loads((spoken / "test.jsonl").read_text().splitlines()[0])
    audio, _ = soundfile.read(spoken / line["audio_filepath"], dtype="int16")
    [found] = EmbeddingAligner(joint, 1)(OnePair(spoken / line["audio_filepath"], line["text"]))
    assert isinstance(found, Aligned) and (found.head, found.log_prob) == ("layer 1", None)

    structure = model_structure(joint.config, joint.symbols.sizes)

    @jax.jit
    def both(audio, lengths, units):
        model = nnx.merge(structure, joint.weights)
        encoded = model.encode_text(units, np.ones(units.shape, np.int32), units.shape[1])
        return model(audio, lengths).layers[1, 0], model.shared(encoded.x, encoded.mask).layers[1, 0]

    frame = joint.config.model.features.samples_per_frame
    rows = np.pad(audio, (0, -len(audio) % frame))[None]
    outputs = both(rows, np.array([len(audio)]), joint.units.encode(found.text, "en")[None])
    heard, read = (np.asarray(side, np.float64) for side in outputs)
    position = best_by_hand(((heard[:, None] - read[None]) ** 2).sum(-1))
    of_word = np.array([found.text[:n].count(" ") if letter != " " else -1 for n, letter in enumerate(found.text)])
    cosines = (heard * read[position]).sum(-1) / np.linalg.norm(heard, axis=1) / np.linalg.norm(read[position], axis=1)
    matched = 0
    for word in found.words:
        frames = np.flatnonzero(of_word[position] == word.word)
        if len(frames):
            matched += 1
            ends = frames[0] * frame / 16_000, min((frames[-1] + 1) * frame, len(audio)) / 16_000
            assert (word.start, word.end) == pytest.approx(ends)
            expected = [max(cosines[position == n].sum(), 0) for n in np.unique(position[frames])]
            assert word.confidence == pytest.approx(sum(expected) / len(frames), abs=1e-4)
        else:
            assert word.start == word.end and word.confidence == 0
    assert matched and [word.text for word in found.words] == found.text.split()
    [row] = make_rows("one", [found])
    assert row["head"] == "layer 1"


def test_a_unit_without_frames_stands_where_it_is_passed_by():
    found = frames_of_units(np.array([0, 0, 2, 2, 2]), np.array([0.5, 1.0, -0.5, 0.2, 0.0]), 4)
    assert found.starts.tolist() == [0, 2, 2, 5] and found.ends.tolist() == [2, 2, 5, 5]
    np.testing.assert_allclose(found.scores, [0.75, 0, 0, 0])


def test_a_unit_that_is_skipped_at_the_end_stands_within_the_audio():
    frames = frames_of_units(np.array([0]), np.array([0.5]), 2)
    spans = unit_spans(["a", "b"], np.array([0, 0]), frames, 0.04, 0.03)
    assert [(span.text, span.start, span.end) for span in spans] == [("a", 0.0, 0.03), ("b", 0.03, 0.03)]


class WithoutLastWord(Spelling):
    """Characters as text units, of all words but the last, as phonemes of `one two …`."""

    def encode(self, text, language=""):
        return super().encode(text.rpartition(" ")[0])

    def words(self, text, language=""):
        return super().words(text.rpartition(" ")[0])


def test_a_word_without_units_is_not_lost(joint, spoken):
    line = json.loads((spoken / "test.jsonl").read_text().splitlines()[0])
    some = dataclasses.replace(
        joint, symbols=dataclasses.replace(joint.symbols, units=WithoutLastWord(joint.tokenizer))
    )
    [found] = EmbeddingAligner(some, 1)(OnePair(spoken / line["audio_filepath"], line["text"]))
    assert [word.text for word in found.words] == found.text.split()
    *_, before, last = found.words
    assert last == Span(found.text.split()[-1], before.end, before.end, 0.0, len(found.words) - 1)


def test_words_without_spans_stand_where_the_word_before_them_ends():
    two = Span("two", 0.1, 0.3, 0.5, 1)
    assert every_word(["one", "two", "three"], [two]) == (Span("one", 0, 0, 0, 0), two, Span("three", 0.3, 0.3, 0, 2))


def test_several_ways_stand_in_one_table_and_the_first_is_written(joint, spoken, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(align, "load_trained", lambda *_: joint)
    arguments = ["--data", f"some={spoken / 'test.jsonl'}", "--by", "labels", "0", "-1", "--output"]
    assert main(["align", str(joint.run.root), *arguments, str(tmp_path / "times.jsonl")]) == 0
    table = [line.split()[1:3] for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["some"]]
    assert table[0][0] == "full_context" and table[1:] == [["layer", "0"], ["layer", "2"]]
    lines = [json.loads(line) for line in (tmp_path / "times.jsonl").read_text().splitlines()]
    assert {line["head"] for line in lines} == {"full_context"} and len(lines) == 8


def test_mistakes_are_told(trained, joint, capsys, tmp_path):
    with pytest.raises(UserError, match="has no text encoder"):
        EmbeddingAligner(load_trained(trained))
    with pytest.raises(UserError, match="--by 3: there are 2 shared layers"):
        EmbeddingAligner(joint, 3)
    assert main(["align", str(trained), "a.wav", "text", "--by", "first"]) == 2
    assert "'first' is neither labels nor the number" in capsys.readouterr().err

"""The output of `joint-st data inspect`, compared with known numbers."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from joint_st.cli import main
from joint_st.config import Config, DataConfig, ManifestSource, TextSource, TokenizerConfig, UnitsConfig, override
from joint_st.data.inspection import decode_all, inspect
from joint_st.data.tokenizers import Characters, make_tokenizer


@pytest.fixture
def data(tmp_path):
    rows = [("a", 1.0, "one two"), ("b", 2.0, "two three"), ("c", 0.05, "one"), ("d", 1.0, "")]
    with open(tmp_path / "train.jsonl", "w") as manifest:
        for name, seconds, text in rows:
            soundfile.write(tmp_path / f"{name}.wav", np.zeros(round(16_000 * seconds), np.int16), 16_000)
            manifest.write(json.dumps({"audio_filepath": f"{name}.wav", "duration": seconds, "text": text}) + "\n")
    (tmp_path / "text.txt").write_text("two four\nfive\n")
    train = ManifestSource(path=str(tmp_path / "train.jsonl"))
    return DataConfig(
        train=(train,),
        test={"same": train},
        text=(TextSource(path=str(tmp_path / "text.txt")),),
        batch_size=2,
        buckets=1,
    )


def test_counts_hours_drops_and_padding(data):
    tokenizer, words, counts, density, plan, test, warning = inspect(Config(data=data))
    # e f h i n o r t u v w and the space, with the blank and the unknown character.
    assert tokenizer == "tokenizer: characters, 14 labels, the CTC blank included"
    assert words == "words: 3 in training audio, 2 in training text alone"
    assert counts.startswith("train: 2 utterances, 0.00 h; dropped ")
    assert "1 too short" in counts and "1 with empty text" in counts
    # 7 and 9 characters, with a blank between the two e of "three", in 25 and 50 frames: 28 % and 20 %.
    assert density.strip() == (
        "5.3 labels per second; CTC needs at least 24% of the frames of 40 ms for them, and 28% in one utterance of a hundred"
    )
    # In frames of 160 ms, 7 of 7 and 10 of 13.
    features = {"model.features.window_ms": 50.0, "model.features.hop_ms": 40.0}
    dense = list(inspect(override(Config(data=data), features)))[3]
    assert "at least 88% of the frames of 160 ms" in dense
    assert dense.endswith("; shorter frames (model.features.hop_ms) or wordpieces leave it more choice")
    assert "2 × 2 s" in plan and "1 steps per epoch, 25.0% padding" in plan
    assert test.startswith("test.same: 4 utterances")
    assert warning.startswith("warning: data.text: nothing trains on it; set data.text_batch_size, and losses.recon")


def test_units_and_batches_of_text(data):
    units = UnitsConfig(kind="characters")
    config = Config(data=data.model_copy(update={"units": units, "text_batch_size": 2}))
    _, units, _, _, rates, _, _, _, _, texts, plan, warning = inspect(config)
    assert units == "text units: characters, 14, padding and unknown included"
    assert rates.strip() == "8.0 text units per utterance, 5.3 per second"  # 7 and 9 in 1 and 2 s
    assert texts == "text: 2 texts, 6.0 text units each; dropped none"
    assert "2 × 8 text units, 8 labels (1 batches)" in plan and "25.0% padding" in plan
    assert warning.startswith("warning: data.text_batch_size: 2 sentences a step, and no loss trains on them; set los")


def test_audio_without_length_has_no_rate_of_units(data, tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.int16), 16_000)
    (tmp_path / "dev.jsonl").write_text(
        json.dumps({"audio_filepath": "empty.wav", "duration": 0.0, "text": "one"}) + "\n"
    )
    dev, units = ManifestSource(path=str(tmp_path / "dev.jsonl")), UnitsConfig(kind="characters")
    lines = list(inspect(Config(data=data.model_copy(update={"units": units, "dev": (dev,)}))))
    assert "  3.0 text units per utterance" in lines


def test_decoding_finds_all_that_is_not_as_stated(data, tmp_path, capsys):
    config = tmp_path / "c.json"
    config.write_text(Config(data=data).model_dump_json())
    assert main(["data", "inspect", str(config), "--decode"]) == 0
    assert "decoded 4 utterances, 0.00 h; 0 cannot be read" in capsys.readouterr().out
    whole = (tmp_path / "b.wav").read_bytes()
    (tmp_path / "b.wav").write_bytes(whole[:32_044])
    (tmp_path / "c.wav").unlink()
    found = decode_all(Config(data=data))
    assert (found.utterances, len(found.bad)) == (4, 2)
    with pytest.raises(SystemExit) as exit:
        main(["data", "inspect", str(config), "--decode"])
    assert exit.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    where = f"train, test.same: {tmp_path}/train.jsonl"
    assert lines[0] == f"{where}:2: b: 1.000 s long, where its source says 2.000 s"
    assert lines[1] == f"{where}:3: c: {tmp_path}/c.wav: no such file"
    assert lines[2] == "decoded 4 utterances, 0.00 h; 2 cannot be read"
    assert any(line.startswith("train: ") for line in lines[3:])


def test_a_saved_tokenizer_is_named_and_what_it_cannot_spell_is_counted(data, tmp_path, caplog):
    """The kind is that of the saved tokenizer, even if the config would make another one."""
    texts = ["one two", "two thre", "wxyz"] * 9
    make_tokenizer(TokenizerConfig(kind="sentencepiece", vocabulary_size=16), texts).save(tmp_path / "pieces")
    Characters("ehortw ").save(tmp_path / "characters")
    for kind, size in (("sentencepiece", 16), ("characters", 9)):
        path = TokenizerConfig(path=str(tmp_path / kind.replace("sentencepiece", "pieces")))
        caplog.clear()
        tokenizer, _, counts, *_ = inspect(Config(data=data.model_copy(update={"tokenizer": path})))
        assert tokenizer == f"tokenizer: {kind}, {size} labels, the CTC blank included"
        if kind == "characters":
            # Of `one two`, `two three`, `one`: n twice, and the rows that are left have one of them.
            assert "; 1 unknown characters in 1" in counts
            [said] = {record.getMessage() for record in caplog.records}
            assert said.endswith(": 2 characters in 2 texts are not in the tokenizer, and become unknown labels: 'n' 2")
        else:
            assert "unknown" not in counts and not caplog.records


def test_other_languages_under_the_english_normaliser_are_named(data, tmp_path):
    def warnings(**changes):
        told = [line for line in inspect(Config(data=data.model_copy(update=changes))) if line.startswith("warning")]
        return [line for line in told if "normalizer" in line]

    text = {"text": (TextSource(path=str(tmp_path / "text.txt"), language="nl-BE"),)}
    english = {"text": (TextSource(path=str(tmp_path / "text.txt"), language="en_GB"),)}
    assert warnings() == warnings(**english) == warnings(**text, normalizer="basic v2") == []
    [one] = warnings(**text)
    assert one.endswith("are also in nl-be; take `basic`")
    assert "are also in fr; " in warnings(units=UnitsConfig(kind="phonemes", language="fr"))[0]
    assert warnings(units=UnitsConfig(kind="characters", language="fr")) == []


def test_texts_of_a_language_without_phonemes_are_named_and_the_others_go_on(data, tmp_path, caplog):
    with open(tmp_path / "train.jsonl", "a") as manifest:
        for name, language in (("e", "tlh"), ("f", "tlh"), ("g", "eng")):
            shutil.copy(tmp_path / "a.wav", tmp_path / f"{name}.wav")
            row = {"audio_filepath": f"{name}.wav", "duration": 1.0, "text": "one two", "language": language}
            manifest.write(json.dumps(row) + "\n")
    units = UnitsConfig(kind="phonemes")
    _, _, _, counts, *_ = inspect(Config(data=data.model_copy(update={"units": units})))
    assert counts.startswith("train: 5 utterances") and "2 without losses on their text" in counts
    messages = {record.getMessage() for record in caplog.records}
    assert (
        len(messages) == 1
        and "2 texts are left without text units, the first of them e: a language of the data" in messages.pop()
    )

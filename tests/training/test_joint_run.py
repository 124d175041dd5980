"""A run on speech and text, from a config to its files on disk, stopped and continued."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from joint_st.config import (
    DataConfig,
    FeaturesConfig,
    SpecAugmentConfig,
    TextConfig,
    TextSource,
    UnitsConfig,
    override,
)
from joint_st.data.dataset import open_texts
from joint_st.data.normalizers import normalizer
from joint_st.data.text_units import make_units
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError
from joint_st.runs.trained import load_trained
from joint_st.training.asr import train_asr
from joint_st.training.setup import _narrow_masks, _too_short
from tests.tiny import saved_arrays, tiny_config
from tests.training.test_loggers import tensorboard_values

JOINT = {
    "data.units.kind": "phonemes",
    "data.text_batch_size": 4,
    "data.test": {},
    "losses.reconstruction.full_context": 0.5,
    "losses.consistency.weight": 0.1,
    "training.text_first_steps": 2,
    "training.loggers": ["tensorboard"],
}


def metrics(run):
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "audio_seconds_per_second"} for row in rows]


@pytest.mark.slow
def test_a_run_whose_text_comes_later_goes_on_as_it_would_have(corpora, tmp_path):
    later = {"training.text_first_steps": 0, "training.text_from_step": 4, "training.text_ramp_steps": 3}
    config = tiny_config(corpora, {**JOINT, **later, "training.loggers": [], "training.log_every": 1})
    run = tmp_path / "run"
    train_asr(config, run)
    whole, arrays = metrics(run), saved_arrays(run, 6)
    rows = [row for row in whole if row["loss"]]
    assert [row["full_context_reconstruction"] != "" for row in rows] == [False] * 4 + [True] * 2
    assert [float(row["sentences"] or 0) for row in rows] == [0] * 4 + [4] * 2
    assert all(float(row["utterances"]) > 0 for row in rows)
    # Of steps 1 to 6, the checkpoint of 3 is before the first with text.
    for step in (4, 6):
        shutil.rmtree(run / "checkpoints" / str(step), ignore_errors=True)
    train_asr(config, run)
    assert metrics(run) == whole
    found = saved_arrays(run, 6)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.slow
def test_a_joint_run_goes_on_as_it_would_have(corpora, tmp_path):
    config = tiny_config(corpora, JOINT)
    run = tmp_path / "run"
    train_asr(config, run)
    whole, arrays = metrics(run), saved_arrays(run, 6)
    # Text alone in steps 1 and 2, then both.
    assert [row["full_context_ctc"] != "" for row in whole if row["loss"]] == [False, True, True]
    assert all(float(row["sentences"]) == 8 for row in whole if row["loss"])
    assert [float(row["utterances"] or 0) for row in whole if row["loss"]] == [0, 8, 8]
    images = {(step, v.tag) for step, v in tensorboard_values(run / "tensorboard") if v.HasField("image")}
    assert {step for step, _ in images} == {3, 6}
    assert {tag for step, tag in images if step == 6} >= {"layers", "alignment_1"}

    for step in (4, 6):
        shutil.rmtree(run / "checkpoints" / str(step))
    assert sorted(int(entry.name) for entry in (run / "checkpoints").iterdir())[-1] == 3
    train_asr(override(config, {"training.loggers": []}), run)
    assert metrics(run) == whole
    found = saved_arrays(run, 6)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)

    shutil.move(run, tmp_path / "moved")
    trained = load_trained(tmp_path / "moved", "latest")
    assert trained.units.encode("eight", "en").size == 2
    with pytest.raises(UserError, match="data.text_batch_size: 4 in .*, 2 now"):
        train_asr(override(config, {"data.text_batch_size": 2}), tmp_path / "moved")


def test_the_start_counts_sentences_that_ctc_cannot_spell(tmp_path):
    """With letters for units too, a frame for each unit leaves none for the blank between two equal letters."""
    (tmp_path / "a.txt").write_text("one\nthree\nall\n")
    source = TextSource(path=str(tmp_path / "a.txt"))
    data = DataConfig(train=(source,), text=(source,), text_batch_size=1)
    units = make_units(UnitsConfig(kind="characters"), [("one three all", "en")])
    sentences = open_texts(data, normalizer("basic"), Characters("abcdefghijklmnopqrstuvwxyz"), units)
    assert "2 of 3 sentences" in _too_short(TextConfig(repetition="none"), sentences)
    assert not _too_short(TextConfig(repetition="fixed", repeat_most=2), sentences)


def test_the_start_says_where_time_masks_hide_no_frame_of_the_encoder():
    narrow, wide, none = ({"time_share": 0.03}, {"time_share": 0.2}, {"time_share": 0.03, "time_masks": 0})
    told = [_narrow_masks(SpecAugmentConfig(**one), 2.86, FeaturesConfig()) for one in (narrow, wide, none)]
    assert "2.9 s, spans have up to 8 feature frames, and a frame of the encoder sees 7" in told[0]
    assert told[1:] == ["", ""]
    assert _narrow_masks(SpecAugmentConfig(**narrow), 2.86, FeaturesConfig(hop_ms=5.0)) == ""

"""Loggers store the metrics that they get, and rows of steps that will be run again are removed."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from joint_st.analysis.pairs import NothingToCompare
from joint_st.training import asr
from joint_st.training.loggers import CsvLogger, TensorBoardLogger
from tests.tiny import tiny_config


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_csv_keeps_rows_up_to_the_step_it_resumes_at(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = CsvLogger(path, ("loss", "wer"), resume_at=0)
    logger.log(10, {"loss": 0.1 + 0.2, "wer": None, "unknown": 1.0})
    logger.log(20, {"wer": 0.5})
    logger.log(30, {"loss": 1.0})
    assert rows(path)[0] == {"step": "10", "loss": "0.30000000000000004", "wer": ""}, "written at once, exactly"
    logger.close()
    resumed = CsvLogger(path, ("loss", "wer"), resume_at=20)
    resumed.log(30, {"loss": 2.0})
    resumed.close()
    assert [(row["step"], row["loss"], row["wer"]) for row in rows(path)] == [
        ("10", "0.30000000000000004", ""),
        ("20", "", "0.5"),
        ("30", "2.0", ""),
    ]


def tensorboard_values(folder):
    """(step, value) of each summary in the one file of events in a folder."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (file,) = folder.glob("events.*")
    data, at = file.read_bytes(), 0
    # A record is its length (8 bytes), a checksum (4), the event, and another checksum (4).
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        yield from ((event.step, value) for value in event.summary.value)
        at += 12 + length + 4


def test_tensorboard_events_hold_names_and_finite_values(tmp_path, caplog):
    logger = TensorBoardLogger(tmp_path, resume_at=0)
    logger.log(7, {"loss": 0.25, "wer": None, "perplexity": float("inf")})
    logger.close()
    assert caplog.text == ""
    found = [(step, value.tag, value.simple_value) for step, value in tensorboard_values(tmp_path)]
    assert found == [(7, "loss", 0.25)]


def test_tensorboard_shows_images(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    logger = TensorBoardLogger(tmp_path, resume_at=0)
    logger.log_images(3, {"layers": image})
    logger.close()
    ((step, value),) = tensorboard_values(tmp_path)
    assert (step, value.tag) == (3, "layers")
    shown = PIL.Image.open(io.BytesIO(value.image.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(shown), image)


def test_a_dev_set_without_anything_to_compare_has_no_figures_and_ends_no_training(monkeypatch, tmp_path, capsys):
    def refuse(*_):
        raise NothingToCompare("dev: all utterances are longer than 12 s, the most that is compared")

    monkeypatch.setattr(asr, "LayerAnalysis", refuse)
    monkeypatch.setattr(asr, "Scorer", lambda *_: lambda weights, name: {f"{name}_full_context_wer": 0.5})
    config = tiny_config(tmp_path, {"training.loggers": "tensorboard"})
    data = SimpleNamespace(dev=object(), symbols=SimpleNamespace(units=object(), sizes=None))
    found = asr.make_evaluation(config, data, None, "wer")({})
    assert (found.rank, found.images, found.more) == (0.5, {}, {})
    assert "no curves of the layers: dev: all utterances are longer than 12 s" in capsys.readouterr().err

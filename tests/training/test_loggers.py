"""Loggers store the metrics that they get, and rows of steps that will be run again are removed."""

import csv
import io
import sys
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from joint_st.analysis.pairs import NothingToCompare
from joint_st.config import load, override
from joint_st.runs.directory import open_run
from joint_st.training import asr, loggers
from joint_st.training.loggers import CsvLogger, TensorBoardLogger, open_loggers
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


def tensorboard_events(folder):
    """Each event in the one file of events in a folder."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (file,) = folder.glob("events.*")
    data, at = file.read_bytes(), 0
    # A record is its length (8 bytes), a checksum (4), the event, and another checksum (4).
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        yield event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        at += 12 + length + 4


def tensorboard_values(folder):
    """(step, value) of each summary in the one file of events in a folder."""
    for event in tensorboard_events(folder):
        yield from ((event.step, value) for value in event.summary.value)


def test_tensorboard_events_hold_names_and_finite_values(tmp_path, caplog):
    logger = TensorBoardLogger(tmp_path, resume_at=0)
    logger.log(7, {"loss": 0.25, "wer": None, "perplexity": float("inf")})
    logger.close()
    assert caplog.text == ""
    found = [(step, value.tag, value.simple_value) for step, value in tensorboard_values(tmp_path)]
    assert found == [(7, "loss", 0.25)]


def test_tensorboard_events_are_stored_when_they_are_flushed(tmp_path):
    """A killed process closes nothing, and a resumed run does not write the rows before a checkpoint again."""
    logger = TensorBoardLogger(tmp_path, resume_at=0)
    for step in range(1, 101):
        logger.log(step, {"loss": step})
    logger.flush()
    assert [step for step, _ in tensorboard_values(tmp_path)] == [*range(1, 101)]
    logger.close()


def test_tensorboard_events_are_shown_while_nothing_is_flushed(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "SHOWN_AFTER", -1)
    logger = TensorBoardLogger(tmp_path, resume_at=0)
    logger.log(7, {"loss": 0.25})
    assert [step for step, _ in tensorboard_values(tmp_path)] == [7]
    logger.close()


def test_tensorboard_hides_the_steps_that_are_run_again(tmp_path):
    """TensorBoard hides what other files have from the step of an event on that says that a session starts."""
    logger = TensorBoardLogger(tmp_path, resume_at=20)
    logger.close()
    started = [event for event in tensorboard_events(tmp_path) if event.HasField("session_log")]
    assert [(event.step, event.session_log.status) for event in started] == [(21, 1)]


@pytest.fixture
def wandb(monkeypatch):
    """Stand in for the package `wandb`; the ids under which runs were opened, and the rates that they were told."""
    opened = []

    def init(**options):
        opened.append((options["id"], options["config"]["optimizer"]["peak_learning_rate"]))
        return SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)

    util = SimpleNamespace(generate_id=lambda: f"id_{len(opened)}")
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(util=util, init=init))
    return opened


def test_a_run_that_starts_afresh_has_a_new_id_and_none_of_the_old_events(tmp_path, wandb):
    config = tiny_config(tmp_path, {"training.loggers": "wandb,tensorboard"})
    for rate in (1.0, 1e-3):  # the first ends before its first checkpoint
        run = open_run(tmp_path / "run", override(config, {"optimizer.peak_learning_rate": rate}))
        for logger in open_loggers(load(run.config), run, ("loss",), resume_at=0):
            logger.log(1, {"loss": rate})
            logger.close()
    assert wandb == [("id_0", 1.0), ("id_1", 1e-3)]
    assert [value.simple_value for _, value in tensorboard_values(run.tensorboard)] == [np.float32(1e-3)]
    for logger in open_loggers(load(run.config), run, ("loss",), resume_at=1):  # goes on
        logger.close()
    assert wandb[2:] == [("id_1", 1e-3)]


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

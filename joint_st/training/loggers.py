"""Loggers of metrics: `metrics.csv` always, TensorBoard and Weights & Biases on request."""

from __future__ import annotations

import csv
import io
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from joint_st import storage
from joint_st.config import Config, LmConfig
from joint_st.errors import UserError
from joint_st.json_files import DAMAGED
from joint_st.runs.directory import RunDirectory

SHOWN_AFTER = 60
"""Seconds after which TensorBoard can show on a disk what was logged, if no `flush` comes before."""


class Logger(Protocol):
    """A destination of rows of metrics; `None` values are unknown at that step."""

    def log(self, step: int, row: Mapping[str, float | None]) -> None:
        """Record `row` of metrics after `step` steps."""

    def log_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Record images, uint8 [H, W, 3], after `step` steps, if the logger can show them."""

    def flush(self) -> None:
        """Return when all rows so far are stored; a resumed run does not write them again."""

    def close(self) -> None:
        """Flush and close."""


class CsvLogger:
    """Writes one row for each call with some of `columns`, without other keys; the file can be read while the run
    continues."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, resume_at: int):
        """Remove rows after step `resume_at`, which the run will write again."""
        self._columns = ("step", *columns)
        kept = []
        if path.exists():
            try:
                # A line without its end was cut when the machine went down.
                lines = io.StringIO(path.read_bytes().decode(), newline="")
                whole = [line for line in lines if line.endswith("\n")]
                kept = [row for row in csv.DictReader(whole) if int(row["step"]) <= resume_at]
            except (csv.Error, ValueError, TypeError, KeyError) as error:
                told = " ".join(str(error).split())[:100]
                raise UserError(
                    f"{path}: not the metrics of a run ({told}); {DAMAGED}, or move it away: the run goes on without"
                ) from None
        text = io.StringIO(newline="")
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(kept)
        self._file = storage.append_file(path, text.getvalue())

    def _writer(self, file):
        return csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")

    def log(self, step, row):
        if not row.keys() & set(self._columns):
            return
        self._writer(self._file).writerow({"step": step, **{k: "" if v is None else repr(v) for k, v in row.items()}})

    def log_images(self, step, images):
        pass

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()


class TensorBoardLogger:
    """Writes scalars as TensorBoard events under `directory`; in a bucket they appear at each `flush`."""

    def __init__(self, directory: Path, *, resume_at: int):
        try:
            from tensorboardX import summary
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
        except ImportError:
            raise UserError("training.loggers: tensorboard needs: pip install 'joint_st[tensorboard]'") from None
        self._summary, self._event = summary, Event
        self._directory = self._folder = directory
        if storage.is_remote(directory):
            self._folder = Path(tempfile.mkdtemp(prefix="joint_st_tensorboard_"))
        self._folder.mkdir(parents=True, exist_ok=True)
        # Not a `SummaryWriter`: its `flush` stores nothing that still waits in the queue to its thread.
        self._writer, self._stored = EventsWriter(str(self._folder / "events")), time.monotonic()
        # Events of steps that will be run again are hidden.
        self._write(resume_at + 1, session_log=SessionLog(status=SessionLog.START))

    def _write(self, step, **what):
        self._writer.write_event(self._event(step=step, wall_time=time.time(), **what))

    def log(self, step, row):
        for name, value in row.items():
            # A value that is not finite would not be shown.
            if value is not None and math.isfinite(value):
                self._write(step, summary=self._summary.scalar(name, value))
        if time.monotonic() - self._stored > SHOWN_AFTER:
            self._writer.flush()
            self._stored = time.monotonic()

    def log_images(self, step, images):
        for name, image in images.items():
            self._write(step, summary=self._summary.image(name, image, dataformats="HWC"))

    def flush(self):
        self._writer.flush()
        self._move()

    def close(self):
        self._writer.close()
        self._move()
        if self._folder != self._directory:
            shutil.rmtree(self._folder)

    def _move(self):
        if self._folder != self._directory:
            storage.move_into_place(self._folder, self._directory)


class WandbLogger:
    """A Weights & Biases run, resumed under the same id when the run is."""

    def __init__(self, run: RunDirectory, name: str, config: dict):
        try:
            import wandb
        except ImportError:
            raise UserError("training.loggers: wandb needs: pip install 'joint_st[wandb]'") from None
        if not run.wandb_id.exists():
            storage.write_whole(run.wandb_id, wandb.util.generate_id())
        # Folder in which it keeps files on a disk, in addition to what it sends.
        folder = tempfile.mkdtemp(prefix="joint_st_wandb_") if storage.is_remote(run.root) else run.root
        self._run = wandb.init(
            dir=folder, name=name, config=config, id=run.wandb_id.read_text(), resume="allow", project="joint_st"
        )

    def log(self, step, row):
        self._run.log({name: value for name, value in row.items() if value is not None}, step=step)

    def log_images(self, step, images):
        import wandb

        self._run.log({name: wandb.Image(image) for name, image in images.items()}, step=step)

    def flush(self):
        pass

    def close(self):
        self._run.finish()


def open_loggers(
    config: Config | LmConfig, run: RunDirectory, columns: tuple[str, ...], *, resume_at: int
) -> list[Logger]:
    """Open the CSV of a run, with some columns, and the loggers in its config, at step `resume_at`."""
    loggers: list[Logger] = [CsvLogger(run.metrics, columns, resume_at=resume_at)]
    if "tensorboard" in config.training.loggers:
        loggers.append(TensorBoardLogger(run.tensorboard, resume_at=resume_at))
    if "wandb" in config.training.loggers:
        loggers.append(WandbLogger(run, config.name, config.model_dump(mode="json")))
    return loggers

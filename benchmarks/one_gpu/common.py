"""Parts that the measurements share: results that are on disk at once, PyTorch in a separate process, random
batches."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
OUT = Path(os.environ.get("OUT") or "/tmp/one_gpu/out")
TINY = bool(os.environ.get("TINY"))
PEAK = {"H100": 989e12, "H200": 989e12}
"""Peak of dense bfloat16 products with float32 sums, in operations a second, from the data sheets."""


class Report:
    """A dictionary that is written to `OUT/NAME.json` whenever it changes."""

    def __init__(self, name: str):
        self._file = OUT / f"{name}.json"
        self._lock = threading.Lock()
        self.found: dict = {}
        OUT.mkdir(parents=True, exist_ok=True)

    def __call__(self, path: str, value) -> None:
        with self._lock:  # programs are compiled in threads, which report
            self._put(path, value)

    def _put(self, path: str, value) -> None:
        *folders, last = path.split("/")
        place = self.found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
        draft = self._file.with_suffix(".part")
        draft.write_text(json.dumps(self.found, indent=1))
        draft.rename(self._file)
        print(f"{path}: {json.dumps(value)[:300]}", flush=True)

    def found_at(self, path: str) -> dict:
        """The dictionary at a path, empty if there is none."""
        place = self.found
        for name in path.split("/"):
            place = place.get(name, {}) if isinstance(place, dict) else {}
        return place if isinstance(place, dict) else {}


class Clock:
    """A budget of seconds."""

    def __init__(self, seconds: float):
        self.began = time.perf_counter()
        self._seconds = seconds

    @property
    def left(self) -> float:
        return self._seconds - (time.perf_counter() - self.began)


class Worker:
    """`torch_worker.py` in a process of its own, which takes and answers lines of JSON and logs to standard error."""

    def __init__(self, *arguments: str):
        python = os.environ.get("TORCH_PYTHON") or sys.executable
        command = [python, str(HERE / "torch_worker.py"), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answers: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put({"error": f"ended with status {self._process.wait()}"})

    def send(self, **command) -> None:
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # the thread that reads reports how it ended

    def answer(self, seconds: float) -> dict:
        """Return the answer to the earliest command that was not answered yet; `error` if none comes in time."""
        try:
            return self._answers.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            return {"error": "no answer in time", "late": True}

    def ask(self, seconds: float, **command) -> dict:
        self.send(**command)
        return self.answer(seconds)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def short(error: BaseException) -> str:
    """Return an exception in one line of at most 400 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def peak_of(kind: str) -> float | None:
    return next((peak for name, peak in PEAK.items() if name in kind), None)


def ctc_batch(batch: int, frames: int, vocabulary: int, labels: int):
    """Random logits, numbers of frames, labels and numbers of labels; the blank is 0."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(0, 3, (batch, frames, vocabulary)).astype(np.float32),
        rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32),
        rng.integers(1, vocabulary, (batch, labels)).astype(np.int32),
        rng.integers(labels // 2, labels + 1, batch).astype(np.int32),
    )

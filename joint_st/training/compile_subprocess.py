"""Compiles the steps of a run in a subprocess, into the cache of compiled programs, which this process reads.

XLA's compiler allocates and frees millions of small blocks. In a process that keeps its memory in one heap
(`joint_st.distributed.host_memory`), the fragments that remain make every later search for a large block slow: the
quickstart's joint step took 388 ms in a process that had compiled it, and 233 ms in another, on 2 CPU cores
(`benchmarks/host_memory.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import NamedTuple

import jax

from joint_st.config import Config
from joint_st.data.batch import Shape
from joint_st.data.buckets import Buckets
from joint_st.data.confusions import Confusions
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.host_memory import TUNABLES, VARIABLE
from joint_st.distributed.mesh import available_devices, keep_compiled, make_mesh
from joint_st.distributed.peers import current
from joint_st.distributed.preflight import sources
from joint_st.training.compilation import batch_shapes, shapes_of_batches
from joint_st.training.step import make_train_step, state_shapes

READY = b"ready\n"


class Steps(NamedTuple):
    """The steps of a run, and the shapes of their batches."""

    config: Config
    sizes: SymbolSizes
    buckets: dict[str, Buckets]
    """The buckets of each part of batches with speech."""
    text_buckets: dict[str, Buckets] | None
    """The buckets of batches of text alone; None where no such batches come first."""
    shapes: tuple[Shape, ...]
    """The shapes of batches with speech."""
    speech_buckets: dict[str, Buckets] | None = None
    """The buckets of batches of speech alone; None where no such batches come first."""
    confusions: Confusions | None = None
    """The counts that `text.confusions` names."""

    def each(self) -> Iterator[tuple[bool, Shape]]:
        """Yield for each program whether it takes speech, and the shape of its batches, in the order of their use."""
        first = map(shapes_of_batches, filter(None, (self.text_buckets, self.speech_buckets)))
        for shape in itertools.chain(*first, self.shapes):
            yield shape.paired is not None, shape

    @property
    def digest(self) -> str:
        """Return a fingerprint of everything that the compiled programs depend on."""
        config = self.config.model_copy(update={"name": "", "seed": 0})
        counts = self.confusions.digest if self.confusions else ""
        versions = sources(), counts, jax.__version__, sys.version, os.environ.get("XLA_FLAGS", "")
        return hashlib.sha256(repr((versions, self._replace(config=config, confusions=None))).encode()).hexdigest()[:24]


class CompileSubprocess:
    """A subprocess that compiles `steps`. It ends with the `with` block, and with this process, for whatever reason
    that ends."""

    def __init__(self, steps: Steps):
        self._left = False
        self._ready = {shape: threading.Event() for _, shape in steps.each()}
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "joint_st.training.compile_subprocess"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._reader = threading.Thread(target=self._read, args=(pickle.dumps(steps),), daemon=True)
        self._reader.start()

    def __enter__(self) -> CompileSubprocess:
        return self

    def __exit__(self, *_) -> None:
        self._left = True
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def wait(self, shape: Shape) -> None:
        """Wait until the program for `shape` is in the cache, or the subprocess has failed at it.

        Raises `CancelledError` where the `with` block is left before.
        """
        self._ready[shape].wait()
        if self._left:
            raise CancelledError

    def _read(self, steps: bytes) -> None:
        try:
            self._process.stdin.write(steps)
            self._process.stdin.flush()
            for ready in self._ready.values():
                if self._process.stdout.readline() != READY:
                    break
                ready.set()
        except BrokenPipeError:
            pass
        finally:
            for ready in self._ready.values():
                ready.set()
            self._process.wait()


def compile_in_subprocess(steps: Steps | None) -> CompileSubprocess | contextlib.nullcontext:
    """Begin to compile `steps` in a subprocess where that pays; a context that gives the subprocess or None.

    It pays on the CPU if this process keeps its memory and its cache of compiled programs, on a disk, lacks these. A
    file in the cache records for which steps it has them. steps: None if there is nothing to compile.
    A section that a config file itself defines is unknown to another process: this one compiles then.
    """
    folder = jax.config.jax_compilation_cache_dir
    keeps_memory = os.environ.get(VARIABLE) == TUNABLES and jax.default_backend() == "cpu"
    if not steps or not keeps_memory or current().several or not folder or _known(folder, steps).exists():
        return contextlib.nullcontext()
    return CompileSubprocess(steps) if _can_be_sent(steps) else contextlib.nullcontext()


def _can_be_sent(steps: Steps) -> bool:
    """Return whether another process can find all classes of the config."""
    try:
        pickle.dumps(steps)
    except (pickle.PicklingError, AttributeError):
        return False
    return True


def _known(folder: str, steps: Steps) -> Path:
    return Path(folder) / f"steps-{steps.digest}"


def main() -> None:
    """Compile the steps that come in on standard input, and print a line for each once it is in the cache."""
    steps = pickle.load(sys.stdin.buffer)
    # This process ends when the one that started it does.
    threading.Thread(target=lambda: os._exit(0 if sys.stdin.buffer.read() else 1), daemon=True).start()
    config = steps.config
    keep_compiled(config.training.compilation_cache)
    available_devices(config.parallel)
    mesh = make_mesh(config.parallel)
    with jax.set_mesh(mesh):
        like = state_shapes(config, steps.sizes, mesh)
        for speech, shape in steps.each():
            text = steps.speech_buckets is None or shape.text is not None
            step = make_train_step(config, steps.sizes, mesh, speech=speech, text=text, confusions=steps.confusions)
            step.lower(like, batch_shapes(steps.buckets, shape, mesh)).compile()
            sys.stdout.buffer.write(READY)
            sys.stdout.buffer.flush()
    _known(jax.config.jax_compilation_cache_dir, steps).touch()


if __name__ == "__main__":
    main()

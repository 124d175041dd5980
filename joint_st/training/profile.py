"""Traces some steps of a run by JAX's profiler, for TensorBoard and xprof, and prints their costliest operations."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import tqdm

from joint_st import storage
from joint_st.distributed.peers import current
from joint_st.errors import UserError
from joint_st.runs.directory import RunDirectory
from joint_st.training.operations import TRACE, costs, describe, read_program, read_trace, start_trace
from joint_st.training.setup import log

WARM_UP, TRACED = 10, 5
"""Steps before those that are traced, and traced steps, where the user names none."""

ENDINGS = (TRACE, ".trace.json.gz")
"""Files that the profiler writes: the trace, and a picture of it that browsers show."""


def traced_steps(asked: range | None, start: int, last: int, text_first: int = 0) -> range:
    """Return the numbers of the batches to trace; empty if nothing was asked for.

    asked: steps counted from where this start begins; an empty range: a few after those that warm up. start, last:
    steps of the run that are done, and that it will have. text_first: first steps of the run, which are on text alone.

    Where a run that goes on has not so many steps left, nothing is traced, which is printed: the same command may have
    been queued again. Raises `UserError` where the run has not so many steps at all.
    """
    if asked is None:
        return range(0)
    left = last - start
    if left > 0 and not asked:
        stop = min(max(text_first - start, 0) + WARM_UP + TRACED, left)
        asked = range(max(stop - TRACED, 0), stop)
    if left > 0 and asked.stop <= left:
        return range(start + asked.start, start + asked.stop)
    option = f"--profile {asked.start}:{asked.stop}" if asked else "--profile"
    steps = f"this start has {max(left, 0)} steps (training.steps {last}, {start} of them done)"
    if start:
        log(f"profile  nothing is traced: {steps}, too few for {option}")
        return range(0)
    raise UserError(f"{option}: {steps}; name steps up to {left}, as --profile {max(left - TRACED, 0)}:{left}")


class Profile:
    """The trace of some steps. Each process writes its own files, and process 0 prints."""

    def __init__(self, run: RunDirectory, steps: range):
        """Trace the batches with these numbers; none if there are none."""
        self._folder = run.profile
        self._steps = steps
        self._programs: dict[int, jax.stages.Compiled] = {}
        self._draft: tempfile.TemporaryDirectory | None = None
        self._began = 0.0
        if steps:
            log(f"profile  {self._name} will be traced")

    @property
    def _name(self) -> str:
        return f"steps {self._steps.start + 1} to {self._steps.stop}"

    @contextlib.contextmanager
    def step(self, number: int, program, state) -> Iterator[None]:
        """Run a step in this context, traced if its batch is to be; `program` takes the step, from `state` on."""
        if number not in self._steps:
            yield
            return
        if self._draft is None:
            jax.block_until_ready(state)  # so that no step before is in the trace
            self._start()
        self._programs.setdefault(id(program), program)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def _start(self) -> None:
        self._draft = tempfile.TemporaryDirectory(prefix="joint_st_profile_", ignore_cleanup_errors=True)
        start_trace(self._draft.name)
        self._began = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside this context as time of the steps."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def ends_with(self, number: int) -> bool:
        """Return whether the batch with this number is the last one that is traced."""
        return self._draft is not None and number == self._steps.stop - 1

    def write(self, state) -> None:
        """Write the trace of the steps, of which `state` is the result; print where it is and what it shows."""
        jax.block_until_ready(state)
        step_ms = (time.perf_counter() - self._began) / len(self._steps) * 1e3
        jax.profiler.stop_trace()
        for ending in ENDINGS:
            for file in Path(self._draft.name).rglob(f"*{ending}"):
                self._keep(file, ending)
        if current().is_first:
            _print([f"profile  {self._name}: trace in {self._folder}; `pip install xprof tensorboard`, then one of"])
            _print([f"         {command} --logdir {self._folder}" for command in ("xprof", "tensorboard")])
            _print(self._table(step_ms))
        self._forget()

    def _keep(self, file: Path, ending: str) -> None:
        """Copy a file into the run, under a name that no other process and no other host writes."""
        peers = current()
        host = re.sub(r"[^\w.-]", "_", peers.hosts[peers.index])
        name = f"{host}_process_{peers.index}" if peers.several else host
        session = self._name.replace(" ", "_")  # the same in all processes, whose clocks may differ
        place = self._folder / "plugins" / "profile" / session / f"{name}{ending}"
        content = file.read_bytes()
        if problem := storage.keep(lambda path: storage.write_whole(path, content), place):
            _print([f"profile  {problem}"])

    def _table(self, step_ms: float) -> list[str]:
        events = read_trace(self._draft.name)
        if not events:
            return ["profile  the trace has no operations of the devices"]
        programs = [read_program(program.as_text()) for program in self._programs.values()]
        found = costs(events, programs, len(self._steps))
        lines = describe(found, step_ms)
        if found.unknown > MOST_UNKNOWN and jax.default_backend() == "gpu":
            lines.append(
                f"{found.unknown:.0%} of the time is in kernels whose operation XLA does not tell, as those of CUDA graphs; "
                "XLA_FLAGS=--xla_gpu_enable_command_buffer= does without graphs"
            )
        return [f"profile  {lines[0]}", *(f"         {line}" for line in lines[1:])]

    def close(self) -> None:
        """End a trace whose last step did not come, and leave it out."""
        if self._draft is not None:
            jax.profiler.stop_trace()
            log(f"profile  training ended before the last of {self._name}; no trace was written")
            self._forget()

    def _forget(self) -> None:
        self._draft.cleanup()
        self._draft, self._steps, self._programs = None, range(0), {}


MOST_UNKNOWN = 0.05
"""Share of time in kernels without an operation above which a remark tells how to see more."""


def _print(lines: list[str]) -> None:
    tqdm.tqdm.write("\n".join(lines), file=sys.stderr)

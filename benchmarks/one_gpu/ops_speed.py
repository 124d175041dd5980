"""Speed of CTC, best alignment and prefix beam search on one GPU; CTC is compared with PyTorch's.

    python ops_speed.py SECONDS

Milliseconds are medians of a call with its gradient (of the search: without), measured on the host with inputs on the
device. Everything is written to OUT/ops_speed.json as soon as it is known; `pytorch_over_ours` is above 1 if ours is
faster.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from alignment import literal
from common import TINY, Clock, Report, Worker, ctc_batch, short

from joint_st.ops.ctc import ctc_loss
from joint_st.ops.matching import alignment_loss
from joint_st.ops.prefix_beam import prefix_beam_search

CLOCK = Clock(float(sys.argv[1]))
REPORT = Report("ops_speed")

CTC = [
    # utterances, frames, symbols, labels
    (32, 250, 32, 100),
    (32, 250, 1024, 64),
    (32, 1000, 32, 250),
    (32, 1000, 1024, 200),
    (256, 250, 32, 100),
]
ALIGNMENTS = [
    # utterances times layers, frames, text frames, width
    (64, 250, 250, 256),
    (416, 420, 560, 512),
]
BEAMS = [(16, 250, 32), (16, 250, 1024), (16, 1000, 32), (16, 1000, 1024)]
ROUNDS = 20
if TINY:
    CTC, ALIGNMENTS, BEAMS, ROUNDS = [(2, 20, 8, 5)], [(2, 12, 10, 8)], [(2, 12, 8)], 3


def main() -> None:
    worker = Worker()
    REPORT("device", jax.devices()[0].device_kind)
    programs = Programs()
    for sizes in CTC:
        batch = ctc_batch(*sizes)
        programs.add(f"ctc/{name_of(sizes)}/ours", jax.value_and_grad(our_ctc), batch)
        programs.add(f"ctc/{name_of(sizes)}/optax", jax.value_and_grad(ctc_of_optax), batch)
    for sizes in ALIGNMENTS:
        batch = alignment_batch(*sizes)
        for alignment in ("skip", "dtw", "frame_wise"):
            programs.add(f"alignment/{name_of(sizes)}/{alignment}", with_gradients(aligned(alignment)), batch)
        if sizes[0] * sizes[2] ** 2 < 1e7:  # it holds that many numbers
            programs.add(f"alignment/{name_of(sizes)}/literal", with_gradients(literal), batch)
    for sizes in BEAMS:
        logits, frames, *_ = ctc_batch(*sizes, 8)
        programs.add(f"beam/{name_of(sizes)}/ours", search, (logits, frames))
    programs.wait(reserve=CLOCK.left * 0.35)
    programs.measure()
    compare_ctc(worker)
    compare_alignments()
    worker.close()


def name_of(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def our_ctc(logits, frames, labels, lengths):
    return ctc_loss(logits, frames, labels, lengths)[0].sum()


def ctc_of_optax(logits, frames, labels, lengths):
    pad_frames = (jnp.arange(logits.shape[1]) >= frames[:, None]).astype(jnp.float32)
    pad_labels = (jnp.arange(labels.shape[1]) >= lengths[:, None]).astype(jnp.float32)
    return optax.ctc_loss(logits, pad_frames, labels, pad_labels).sum()


def aligned(alignment: str) -> Callable:
    """Return the loss of an alignment."""

    def loss(audio, text, frames, text_frames):
        return alignment_loss(audio, text, frames, text_frames, alignment=alignment).value.sum()

    return loss


def with_gradients(loss: Callable) -> Callable:
    """Return a loss of audio and text embeddings, and its gradients by both."""
    return jax.value_and_grad(loss, (0, 1))


def search(logits, frames):
    return prefix_beam_search(logits, frames, beam=16, candidates=8, best=1).scores


def alignment_batch(batch: int, frames: int, positions: int, width: int) -> tuple[np.ndarray, ...]:
    """Random embeddings of audio and of text, and their lengths."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(batch, frames, width)).astype(np.float32),
        rng.normal(size=(batch, positions, width)).astype(np.float32),
        rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32),
        rng.integers(positions // 2, positions + 1, batch).astype(np.int32),
    )


class Programs:
    """Functions that are compiled side by side, then measured one after the other."""

    def __init__(self):
        self._inputs: dict[str, Any] = {}
        self._compiled: dict[str, Any] = {}
        self._threads: dict[str, threading.Thread] = {}

    def add(self, path: str, function: Callable, batch: tuple) -> None:
        """Begin to compile a function for a batch; its results are reported under a path."""
        try:
            self._inputs[path] = jax.device_put(batch)
            lowered = jax.jit(function).lower(*self._inputs[path])
        except Exception as error:
            REPORT(f"{path}/error", short(error))
            return
        self._threads[path] = threading.Thread(target=self._compile, args=(path, lowered), daemon=True)
        self._threads[path].start()

    def _compile(self, path: str, lowered) -> None:
        began = time.perf_counter()
        try:
            self._compiled[path] = lowered.compile()
            REPORT(f"{path}/compile_seconds", time.perf_counter() - began)
        except Exception as error:
            REPORT(f"{path}/error", short(error))

    def wait(self, reserve: float) -> None:
        """Return when all are compiled, or when only `reserve` seconds are left."""
        for path, thread in self._threads.items():
            thread.join(max(CLOCK.left - reserve, 0))
            if thread.is_alive():
                REPORT(f"{path}/error", "not compiled in time")

    def measure(self) -> None:
        """Report the time of each."""
        for path, program in [*self._compiled.items()]:
            if CLOCK.left < 6:
                REPORT(f"{path}/error", "no time left")
                continue
            try:
                for _ in range(2):
                    found = jax.block_until_ready(program(*self._inputs[path]))
                taken = []
                while len(taken) < ROUNDS and sum(taken) <= 1.5:
                    began = time.perf_counter()
                    jax.block_until_ready(program(*self._inputs[path]))
                    taken.append(time.perf_counter() - began)
                told = {"ms": 1e3 * statistics.median(taken), "fastest_ms": 1e3 * min(taken), "rounds": len(taken)}
                if path.startswith(("ctc", "alignment")):
                    told["loss"] = float(found[0])
                REPORT(path, REPORT.found_at(path) | told)
            except Exception as error:
                REPORT(f"{path}/error", short(error))


def compare_ctc(worker: Worker) -> None:
    """Measure PyTorch's CTC, and report its times and Optax's over ours."""
    for sizes in CTC:
        place = f"ctc/{name_of(sizes)}"
        named = dict(zip(("batch", "frames", "vocabulary", "labels"), sizes))
        found = worker.ask(CLOCK.left - 2, do="ctc", **named, rounds=ROUNDS)
        REPORT(f"{place}/pytorch", found)
        ours, of_optax = (REPORT.found_at(f"{place}/{name}").get("ms") for name in ("ours", "optax"))
        for kind, told in found.items():
            if isinstance(told, dict) and "seconds" in told and ours:
                REPORT(f"{place}/pytorch_{kind}_over_ours", 1e3 * told["seconds"] / ours)
        if ours and of_optax:
            REPORT(f"{place}/optax_over_ours", of_optax / ours)
        if found.get("late"):
            break


def compare_alignments() -> None:
    """Report the times of alignments over that of `skip`."""
    for sizes in ALIGNMENTS:
        place = f"alignment/{name_of(sizes)}"
        skip = REPORT.found_at(f"{place}/skip").get("ms")
        for other in ("dtw", "literal", "frame_wise"):
            if skip and (ms := REPORT.found_at(f"{place}/{other}").get("ms")):
                REPORT(f"{place}/{other}_over_skip", ms / skip)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # also where something is still being compiled

"""Time of a whole training step on speech alone, compared with PyTorch's.

    python -m benchmarks.train_step                              # all sizes; about 15 minutes on 2 CPU cores
    python -m benchmarks.train_step --size 0.9M 6M --rounds 5 --out /tmp/train_step.json

Both sides make the same step: log-mel features, two strided convolutions, conformer layers, two linear heads with CTC,
clipping, AdamW; float32, no masks of SpecAugment, the same number of threads, layers one after the other and not in a
loop (`model.unroll`). PyTorch's layers are
those of torchaudio where it can be imported, else plain ones of `one_gpu/torch_worker.py`; each row says which. PyTorch
runs eagerly and through `torch.compile`, and the faster one counts.

`parts` are the shares of the kinds of operations in our step's time, by JAX's profiler (`benchmarks/timed_step.py`).
Ratios are PyTorch's time over ours (`benchmarks/side_by_side.py`). `*_share_of_peak` is what the step's matrix products
make of the rate that one large float32 product reaches. PyTorch can be in another environment, whose Python is named by
TORCH_PYTHON. Steps on speech and text are timed by `benchmarks/joint_step.py`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks import machine
from benchmarks.one_gpu.common import Worker
from benchmarks.side_by_side import median_ms, ratio_in_words, ratios, take_turns, write_sizes
from benchmarks.timed_step import Batch, TimedStep, peak_flops
from joint_st.config import Config, load, override
from joint_st.data.symbols import SymbolSizes

RESULTS = machine.RESULTS / "train_step.json"
VOCABULARY = 256
LABELS_PER_SECOND = 5
PATIENCE = 900
"""Seconds that PyTorch may take to build and compile a model."""


@dataclasses.dataclass(frozen=True)
class Size:
    """A conformer and its batch."""

    width: int
    layers: int
    kernel: int
    batch: int
    seconds: float
    feed_forward: int = 4
    """Width inside the feed-forward modules over `width`."""

    @property
    def heads(self) -> int:
        return 4

    @property
    def labels(self) -> int:
        return round(self.seconds * LABELS_PER_SECOND)

    def config(self) -> Config:
        """The config of our side: a third of the layers stream, the rest have full context."""
        streaming = self.layers // 3
        return override(
            load(machine.CHECKOUT / "configs" / "librispeech_960h.py"),
            {
                "model.width": self.width,
                "model.heads": self.heads,
                "model.feed_forward": self.feed_forward,
                "model.kernel": self.kernel,
                "model.audio_layers": 0,
                "model.text_layers": 0,
                "model.streaming_layers": streaming,
                "model.full_context_layers": self.layers - streaming,
                "model.dropout": 0.1,
                "model.compute_dtype": "float32",
                "model.remat": False,
                "model.unroll": self.layers,
                # As plain as the other side's.
                "model.features": {"mels": 80, "level": "none", "remove_offset": False, "floor_db": 0.0},
                "data.text_batch_size": 0,
                "data.units.kind": "none",
                "data.batch_size": self.batch,
                "losses.reconstruction.streaming": 0,
                "losses.reconstruction.full_context": 0,
                "losses.consistency.weight": 0,
                "spec_augment.frequency_masks": 0,
                "spec_augment.time_masks": 0,
                "optimizer.ema_decay": 0,
            },
        )

    def of_pytorch(self, compiled: bool, threads: int) -> dict:
        return {
            "width": self.width,
            "heads": self.heads,
            "ffn": self.feed_forward * self.width,
            "kernel": self.kernel,
            "layers": self.layers,
            "below": self.layers // 3,
            "dropout": 0.1,
            "mels": 80,
            "vocabulary": VOCABULARY,
            "batch": self.batch,
            "samples": round(self.seconds * 25) * 640,
            "labels": self.labels,
            "compile": compiled,
            "precision": "float32",
            "threads": threads,
        }


SIZES = {
    "0.9M": Size(96, 6, 9, 8, 4, feed_forward=2),
    "2.6M": Size(144, 6, 15, 16, 4),
    "6M": Size(144, 12, 31, 8, 8),
    "14M": Size(256, 9, 15, 8, 8),
    "25M": Size(256, 16, 31, 4, 15),
}


class Rival:
    """PyTorch's step of a size, in a process of its own."""

    def __init__(self, size: Size, compiled: bool, threads: int):
        self._kind = "compiled" if compiled else "eager"
        self._worker = Worker()
        self.found = self._worker.ask(PATIENCE, do="build", **size.of_pytorch(compiled, threads))
        """What it says of itself; `error` if it cannot be used."""
        if "error" not in self.found:
            self.found |= self._worker.ask(PATIENCE, do="steps", n=2)

    def steps(self, count: int) -> None:
        """Make a number of steps."""
        found = self._worker.ask(PATIENCE, do="steps", n=count)
        if "error" in found:
            raise SystemExit(f"PyTorch, {self._kind}: {found['error']}")

    def close(self) -> None:
        """End its process."""
        self._worker.close()


def compare(name: str, size: Size, rounds: int, threads: int) -> dict:
    """Return the row of one size."""
    row = {"name": name, **dataclasses.asdict(size)}
    rivals = {kind: Rival(size, kind == "compiled", threads) for kind in ("eager", "compiled")}
    for kind, rival in [*rivals.items()]:
        if "error" in rival.found:
            row[f"torch_{kind}_error"] = rival.found["error"]
            rivals.pop(kind).close()
        else:
            row |= {"rival": rival.found["kind"], "torch": rival.found["torch"]}
            row["torch_parameters"] = rival.found["parameters"]
    sizes = SymbolSizes(VOCABULARY, 0)
    ours = TimedStep(size.config(), sizes, Batch(size.batch, size.seconds, size.labels))
    peak = peak_flops()
    count = max(1, round(1.0 / ours.steps(1)))
    programs = {"ours": ours, **rivals}
    calls = {kind: lambda one=one: one.steps(count) for kind, one in programs.items()}
    seconds = {kind: taken / count for kind, taken in take_turns(calls, rounds, at_least=0, warm_ups=0).items()}
    for rival in rivals.values():
        rival.close()
    parts = ours.parts()

    def share(seconds: np.ndarray) -> float:
        return round(ours.flops / float(np.median(seconds)) / peak, 4)

    row |= {"parameters": ours.parameters, "rounds": rounds, "compile_seconds": round(ours.compile_seconds, 1)}
    row |= {"ours_ms": median_ms(seconds["ours"]), "ours_share_of_peak": share(seconds["ours"]), "parts": parts}
    row["products_share_of_peak"] = round(row["ours_share_of_peak"] / parts["products"], 4)
    if rivals:
        faster = min(rivals, key=lambda kind: np.median(seconds[kind]))
        row |= {f"torch_{kind}_ms": median_ms(seconds[kind]) for kind in rivals}
        row |= {"faster": faster, "torch_ms": median_ms(seconds[faster])} | ratios(seconds["ours"], seconds[faster])
        row["torch_share_of_peak"] = share(seconds[faster])
    return row | {"peak_gflops_per_second": round(peak / 1e9, 1)}


def describe(row: dict) -> str:
    """Return a row in words."""
    told = f"{row['name']}: {row['parameters'] / 1e6:.1f} M parameters, ours {row['ours_ms']:.0f} ms"
    if "ratio" in row:
        told += f", PyTorch {row['torch_ms']:.0f} ms ({row['faster']}, {row['rival']}), ratio {ratio_in_words(row)}"
    return told + "".join(f"; PyTorch {row[name]}" for name in row if name.endswith("_error"))


def main() -> None:
    write_sizes(
        __doc__ or "",
        SIZES,
        RESULTS,
        ("jax", "jaxlib", "torch", "torchaudio"),
        lambda name, rounds: compare(name, SIZES[name], rounds, machine.threads()),
        describe,
    )


if __name__ == "__main__":
    main()

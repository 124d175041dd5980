"""Time of a whole training step on speech alone, compared with PyTorch's.

    python -m benchmarks.train_step                              # all sizes; about 15 minutes on 2 CPU cores
    python -m benchmarks.train_step --size 0.9M 6M --rounds 5 --out /tmp/train_step.json

Both sides make the same step: log-mel features, two strided convolutions, conformer layers, two linear heads with CTC,
clipping, AdamW; float32, no masks of SpecAugment, the same number of threads, layers one after the other and not in a
loop (`model.unroll`). PyTorch's layers are
those of torchaudio where it can be imported, else plain ones of `one_gpu/torch_worker.py`; each row says which. PyTorch
runs eagerly and through `torch.compile`, and the faster one counts.

The sides take turns, so a busy machine slows both: read `ratio`, the median over the rounds of PyTorch's time over ours.
`*_share_of_peak` is what the step's matrix products make of the rate that one large float32 product reaches. PyTorch
can be in another environment, whose Python is named by TORCH_PYTHON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import machine
from benchmarks.one_gpu.common import Worker
from benchmarks.one_gpu.full_batch import full_batch_shapes, random_batch
from joint_st.compile_check.compiled import matrix_flops
from joint_st.config import Config, load, override
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import make_mesh, put_batch
from joint_st.models.functional import count_weights
from joint_st.training.step import make_init, make_train_step, state_shapes

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
                "model.features.mels": 80,
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


class Ours:
    """Our step of a size, compiled, with its state and a batch."""

    def __init__(self, size: Size):
        config, sizes = size.config(), SymbolSizes(VOCABULARY, 0)
        mesh = make_mesh(config.parallel)
        with jax.set_mesh(mesh):
            shapes = full_batch_shapes(config, size.batch, round(size.seconds * 25) * 640, size.labels, 0, mesh)
            like = state_shapes(config, sizes, mesh)
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
            traced = make_train_step(config, sizes, mesh).trace(like, shapes)
            self.flops = matrix_flops(traced.jaxpr)
            began = time.perf_counter()
            self._program = traced.lower().compile()
            self.compile_seconds = time.perf_counter() - began
            self._state = make_init(config, sizes, mesh)()
            self.parameters = count_weights(self._state.params)
            self._batch = put_batch(random_batch(shapes, VOCABULARY, 0), mesh)
        self.steps(2)

    def steps(self, count: int) -> float:
        """Return the seconds of a number of steps."""
        began = time.perf_counter()
        for _ in range(count):
            self._state, metrics = self._program(self._state, self._batch)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - began


def peak_flops(size: int = 2048, rounds: int = 5) -> float:
    """Return the operations per second that a float32 product of two square matrices reaches here."""
    a, b = (jax.random.normal(jax.random.key(n), (size, size)) for n in range(2))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(product(a, b))
        taken.append(time.perf_counter() - began)
    return 2 * size**3 / min(taken[1:])


def compare(name: str, size: Size, rounds: int, threads: int) -> dict:
    """Return the row of one size."""
    row = {"name": name, **dataclasses.asdict(size)}
    workers = {}
    for kind in ("eager", "compiled"):
        workers[kind] = Worker()
        found = workers[kind].ask(PATIENCE, do="build", **size.of_pytorch(kind == "compiled", threads))
        found = found if "error" in found else found | workers[kind].ask(PATIENCE, do="steps", n=2)
        if "error" in found:
            print(f"{name}: PyTorch, {kind}: {found['error']}", flush=True)
            row[f"torch_{kind}_error"] = found["error"]
            workers.pop(kind).close()
        else:
            row |= {"rival": found["kind"], "torch": found["torch"], "torch_parameters": found["parameters"]}
    ours = Ours(size)
    peak = peak_flops()
    count = max(1, round(1.0 / ours.steps(1)))
    seconds = {kind: [] for kind in ("ours", *workers)}
    for _ in range(rounds):
        seconds["ours"].append(ours.steps(count) / count)
        for kind, worker in workers.items():
            found = worker.ask(PATIENCE, do="steps", n=count)
            if "error" in found:
                raise SystemExit(f"{name}: PyTorch, {kind}: {found['error']}")
            seconds[kind].append(found["seconds"] / count)
    for worker in workers.values():
        worker.close()
    ms = {kind: 1e3 * statistics.median(taken) for kind, taken in seconds.items()}
    row |= {"parameters": ours.parameters, "rounds": rounds, "compile_seconds": ours.compile_seconds}
    row |= {"ours_ms": ms["ours"], "ours_share_of_peak": ours.flops / ms["ours"] * 1e3 / peak}
    if workers:
        faster = min(workers, key=ms.get)
        ratios = sorted(a / b for a, b in zip(seconds[faster], seconds["ours"]))
        tenth = len(ratios) // 10
        row |= {f"torch_{kind}_ms": ms[kind] for kind in workers}
        row |= {"faster": faster, "torch_ms": ms[faster], "ratio": statistics.median(ratios)}
        row |= {"ratio_low": ratios[tenth], "ratio_high": ratios[-1 - tenth]}
        row |= {"torch_share_of_peak": ours.flops / ms[faster] * 1e3 / peak}
    return row | {"peak_gflops_per_second": peak / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=[*SIZES], metavar="SIZE", help=", ".join(SIZES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    about = {"device": machine.device(), "commit": machine.commit(), "jax": jax.__version__}
    rows = []
    for name in options.size:
        row = compare(name, SIZES[name], options.rounds, machine.threads())
        rows.append(row | about)
        told = f"{name}: {row['parameters'] / 1e6:.1f} M parameters, ours {row['ours_ms']:.0f} ms"
        if "ratio" in row:
            told += f", PyTorch {row['torch_ms']:.0f} ms ({row['faster']}, {row['rival']}), ratio {row['ratio']:.2f}"
        print(told, flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A training step on a random batch, compiled, for the benchmarks that time it."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.one_gpu.full_batch import full_batch_shapes, random_batch
from joint_st.compile_check.compiled import matrix_flops
from joint_st.config import Config
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import make_mesh, put_batch
from joint_st.models.functional import count_weights
from joint_st.training.operations import Operation, costs, read_program, read_trace, start_trace
from joint_st.training.step import make_init, make_train_step, state_shapes


class Batch(NamedTuple):
    """What a batch without padding has."""

    utterances: int
    seconds: float
    """Seconds of each utterance, rounded to whole frames."""
    labels: int
    """Labels of each utterance and text."""
    units: int = 0
    """Text units of each utterance and text."""
    texts: int | None = None
    """Texts, where the config reads text alone; None: as many as utterances."""


class TimedStep:
    """The step of a config, with its state and a batch."""

    def __init__(self, config: Config, sizes: SymbolSizes, batch: Batch):
        mesh = make_mesh(config.parallel)
        frame = config.model.features.samples_per_frame
        samples = config.model.features.nearest_frames(batch.seconds) * frame
        with jax.set_mesh(mesh):
            shapes = full_batch_shapes(config, batch.utterances, samples, batch.labels, batch.units, mesh, batch.texts)
            like = state_shapes(config, sizes, mesh)
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
            traced = make_train_step(config, sizes, mesh).trace(like, shapes)
            self.flops = matrix_flops(traced.jaxpr)
            """Operations of the step's matrix products."""
            began = time.perf_counter()
            self._program = traced.lower().compile()
            self.compile_seconds = time.perf_counter() - began
            self._state = make_init(config, sizes, mesh)()
            self.parameters = count_weights(self._state.params)
            self._arrays = put_batch(random_batch(shapes, sizes.labels, sizes.units), mesh)
        self.steps(2)

    def steps(self, count: int) -> float:
        """Return the seconds of a number of steps."""
        began = time.perf_counter()
        for _ in range(count):
            self._state, metrics = self._program(self._state, self._arrays)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - began

    def parts(self, count: int = 3) -> dict[str, float]:
        """Return the shares of the kinds of operations in the time of a number of steps, the largest first."""
        with tempfile.TemporaryDirectory(prefix="timed_step_") as folder:
            start_trace(folder)
            self.steps(count)
            jax.profiler.stop_trace()
            events = read_trace(folder)
        shares: dict[str, float] = defaultdict(float)
        for operation in costs(events, [read_program(self._program.as_text())], count).operations:
            shares[_kind(operation)] += operation.share
        return {kind: round(share, 3) for kind, share in sorted(shares.items(), key=lambda item: -item[1])}


KINDS = {
    "layers": ("models/conformer.py", "models/layer.py", "ops/masks.py"),
    "convolution": ("models/convolution.py", "ops/depthwise.py"),
    "attention": ("models/attention.py", "ops/attention.py"),
    "features": ("ops/log_mel.py", "models/front_end.py"),
    "ctc": ("ops/ctc.py", "ops/wide.py", "ops/lattice.py"),
    "optimizer": ("training/optimizer.py", "training/step.py"),
}
"""Kinds of operations that are no products of matrices, by the files that ask for them. `layers` has normalisation,
activations, dropout and sums of the layers."""


def _kind(operation: Operation) -> str:
    name, source = operation.instruction
    if name.startswith("dot_general"):
        return "products"
    return next((kind for kind, files in KINDS.items() if any(file in source for file in files)), "other")


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

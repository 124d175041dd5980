"""Compiling the step for every bucket, before the first one runs or beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import tqdm

from joint_st.data.buckets import Buckets
from joint_st.distributed.mesh import batch_sharding


def batch_shapes(
    buckets: Buckets | None,
    bucket: int | None,
    mesh: jax.sharding.Mesh,
    text: Buckets | None = None,
    text_bucket: int = 0,
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of bucket `bucket`, over all hosts, with sentences of bucket `text_bucket` of `text`.

    A batch without `buckets` or without `text` holds the other part alone.
    """
    shapes = {}
    if buckets is not None:
        rows = buckets.batch_sizes[bucket]
        shapes = {
            "audio": ((rows, buckets.bounds[bucket]), jnp.int16),
            "audio_lengths": ((rows,), jnp.int32),
            "labels": ((rows, buckets.label_bounds[bucket]), jnp.int32),
            "label_lengths": ((rows,), jnp.int32),
            "valid": ((rows,), jnp.bool_),
        }
    if buckets is not None and buckets.unit_bounds:
        shapes["units"] = shapes["unit_ends"] = ((rows, buckets.unit_bounds[bucket]), jnp.int32)
        shapes["unit_lengths"] = ((rows,), jnp.int32)
    if text is not None:
        rows = text.batch_sizes[text_bucket]
        if text.unit_bounds:
            shapes["text_units"] = ((rows, text.bounds[text_bucket]), jnp.int32)
            shapes["text_unit_lengths"] = ((rows,), jnp.int32)
        shapes["text_labels"] = ((rows, text.label_bounds[text_bucket]), jnp.int32)
        shapes["text_label_lengths"] = ((rows,), jnp.int32)
        shapes["text_valid"] = ((rows,), jnp.bool_)
    sharding = batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=sharding) for name, shape in shapes.items()}


Shape = tuple[int | None, int]
"""A batch's bucket of audio (None without) and of text (0 without)."""


def shapes_of_batches(buckets: Buckets | None, text: Buckets | None) -> Iterator[Shape]:
    """All that batches of these buckets have."""
    return itertools.product(range(len(buckets)) if buckets else [None], range(len(text) if text else 1))


class Programs:
    """A step compiled for each shape of its batches.

    One after the other: XLA's compiler is parallel in itself, and several at once took longer and far more memory.
    """

    def __init__(self, mesh: jax.sharding.Mesh):
        self._mesh = mesh
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._programs: dict[Shape, Future] = {}

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_) -> None:
        self._compiler.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self._programs)

    def __getitem__(self, shape: Shape) -> Callable:
        """The program for a shape; waits until it is there."""
        return self._programs[shape].result()

    def add(
        self,
        step,
        state,
        buckets: Buckets | None,
        text: Buckets | None = None,
        before: Callable[[Shape], None] = lambda shape: None,
    ) -> None:
        """Begin to compile the jitted `step` of `state` for all its shapes, behind what is being compiled already.

        before: called when a program was traced, before it is compiled.
        """
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)

        def compiled(k, j):
            with jax.set_mesh(self._mesh):
                lowered = step.lower(like, batch_shapes(buckets, k, self._mesh, text, j))
                before((k, j))
                return lowered.compile()

        for k, j in shapes_of_batches(buckets, text):
            self._programs[k, j] = self._compiler.submit(compiled, k, j)

    def wait(self) -> None:
        """Until all that was added is compiled."""
        shown = {"desc": "compiling", "unit": "shape", "leave": False, "disable": None, "delay": 1}
        for program in tqdm.tqdm(self._programs.values(), **shown):
            program.result()

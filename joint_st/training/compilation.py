"""Compiles the step for every shape of its batches, before the first step or in the background."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import tqdm

from joint_st.data.batch import Shape, array_shape, fields
from joint_st.data.buckets import Buckets
from joint_st.distributed.mesh import batch_sharding
from joint_st.errors import UserError

BucketsOfParts = dict[str, Buckets]
"""The buckets of each part that batches have, by its name."""


def batch_shapes(
    buckets: BucketsOfParts, shape: Shape, mesh: jax.sharding.Mesh
) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """Return shapes, types and shardings of the arrays of a batch of some shape, over all hosts."""
    sharding = batch_sharding(mesh)
    return {
        part: {
            name: jax.ShapeDtypeStruct(
                array_shape(field, own.batch_sizes[bucket], own, bucket), field.dtype, sharding=sharding
            )
            for name, field in fields(part, own)
        }
        for part, own in buckets.items()
        if (bucket := getattr(shape, part)) is not None
    }


def shapes_of_batches(buckets: BucketsOfParts) -> Iterator[Shape]:
    """Return all shapes of batches of these buckets."""
    each = (range(len(buckets[part])) if part in buckets else [None] for part in Shape._fields)
    return itertools.starmap(Shape, itertools.product(*each))


def memory_maps() -> tuple[int, int] | None:
    """Return how many memory maps this process has, and how many it may have; None where the system tells neither.

    XLA's programs for CPU take thousands each, and where there is no room left LLVM ends the process.
    """
    try:
        with open("/proc/self/maps", "rb") as maps, open("/proc/sys/vm/max_map_count") as most:
            return sum(1 for _ in maps), int(most.read())
    except (OSError, ValueError):
        return None


class Programs:
    """A step compiled for each shape of its batches.

    They are compiled one after the other: XLA's compiler is parallel in itself, and several at once took longer and far
    more memory.
    """

    def __init__(self, mesh: jax.sharding.Mesh):
        self._mesh = mesh
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._programs: dict[Shape, Future] = {}
        self._maps = 0
        self._growth = 0

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_) -> None:
        self._compiler.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self._programs)

    def __getitem__(self, shape: Shape) -> Callable:
        """Return the program for a shape; wait until it is compiled."""
        return self._programs[shape].result()

    def add(
        self,
        step,
        state,
        buckets: BucketsOfParts,
        before: Callable[[Shape], None] = lambda shape: None,
        shapes: Iterable[Shape] | None = None,
    ) -> None:
        """Queue the compilation of the jitted `step` of `state` for some shapes, by default for all of its buckets.

        before: function to call when a program was traced, before it is compiled.
        """
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)

        def compiled(shape):
            with jax.set_mesh(self._mesh):
                lowered = step.lower(like, batch_shapes(buckets, shape, self._mesh))
                before(shape)
                self._check_maps()
                return lowered.compile()

        for shape in shapes_of_batches(buckets) if shapes is None else shapes:
            self._programs[shape] = self._compiler.submit(compiled, shape)

    def _check_maps(self) -> None:
        """Raise `UserError` where this system has no room for the memory maps of another program."""
        there = memory_maps()
        if there is None:
            return
        used, most = there
        self._growth = max(self._growth, used - self._maps) if self._maps else 0
        self._maps = used
        if used + 2 * self._growth > most:
            done = sum(program.done() for program in self._programs.values())
            raise UserError(
                f"{done} of {len(self._programs)} compiled steps take {used} of the {most} memory maps that this system "
                "allows a process; take fewer shapes of batches (data.buckets, data.text_buckets), or allow more maps: "
                f"sudo sysctl -w vm.max_map_count={4 * most}"
            )

    def wait(self) -> None:
        """Wait until everything in the queue is compiled."""
        shown = {"desc": "compiling", "unit": "shape", "leave": False, "disable": None, "delay": 1}
        for program in tqdm.tqdm(self._programs.values(), **shown):
            program.result()

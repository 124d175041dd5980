"""Which utterances are aligned together, and in what shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from joint_st.data.buckets import Buckets
from joint_st.data.plan import BatchPlan


@dataclass(frozen=True)
class Job:
    """An utterance to align."""

    row: int
    """Its row in the corpus."""
    id: str
    written: str
    """Its text as the source has it."""
    text: str
    """Normalised."""
    language: str
    labels: np.ndarray
    """int32 [U]."""
    units: np.ndarray
    """int32 [units]; none where the run hears no units."""
    samples: int
    """Length at the model's rate, as the source states it."""


@dataclass(frozen=True)
class JobBatch:
    """Utterances that are aligned together, and the shapes of their arrays."""

    jobs: list[Job]
    rows: int
    samples: int
    labels: int
    units: int
    in_windows: bool
    """Whether this is one utterance, too long to be heard as a whole."""


LENGTH_STEP = 50
"""Shapes are multiples of so many frames, so that a file after the other needs few compilations."""


def plan(
    jobs: Sequence[Job], window: int, *, frame: int, buckets: int, batch_size: int, devices: int
) -> list[JobBatch]:
    """Batches of all jobs, the longest first.

    Those of at most `window` samples are gathered in `buckets` shapes, `batch_size` of them in a batch of the longest;
    each of the others is alone. frame: samples of a frame. devices: what the rows of every batch divide over.
    """
    step = LENGTH_STEP * frame
    long = sorted((job for job in jobs if job.samples > window), key=lambda job: -job.samples)
    batches = [
        JobBatch([job], devices, _up(job.samples, step), _up(len(job.labels), 64), _up(len(job.units), 64), True)
        for job in long
    ]
    short = [job for job in jobs if job.samples <= window]
    if short:
        lengths = np.array([job.samples for job in short])
        shapes = Buckets.choose(
            lengths,
            np.array([len(job.labels) for job in short]),
            np.array([len(job.units) for job in short]),
            count=buckets,
            multiple=step,
            # Fewer where there are few: `batch_size` divides over the devices, and so does this.
            batch_size=min(batch_size, _up(len(short), devices)),
        )
        order = BatchPlan(lengths, shapes, shuffle=False)
        for i in range(order.steps_per_epoch):
            k, rows = order[i]
            own = [short[row] for row in rows if row >= 0]
            widths = shapes.bounds[k], shapes.label_bounds[k], shapes.unit_bounds[k]
            batches.append(JobBatch(own, len(rows), *widths, False))
    return batches


def _up(number: int, multiple: int) -> int:
    return -(-max(number, 1) // multiple) * multiple

"""Alignment to the text encoder's embeddings: when each text unit is spoken, by the cheapest alignment in a shared
layer.

Training minimises the distance along this alignment as consistency (arXiv 2308.06125): audio and text pass through the
shared layers, and each audio frame is matched with a text frame, and so with a text unit, by the cheapest monotonic
alignment.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.distributed.mesh import over_batch, put_batch
from joint_st.errors import UserError
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.models.text_encoder import most_frames, repetitions
from joint_st.ops.matching import align, cheapest
from joint_st.runs.trained import Trained
from joint_st.word_times.aligner import WINDOW_SECONDS, Aligner, AlignmentJob, JobBatch, ReadUtterance
from joint_st.word_times.spans import Aligned, Failed, Frames, every_word, unit_spans, words_of_units
from joint_st.word_times.text import as_written


class EmbeddingAligner(Aligner):
    """Aligns utterances of up to `WINDOW_SECONDS` by embeddings at depth `layer` of a run's checkpoint.

    layer: 0 is the input of the shared layers, `k` the output of the k-th of them, -1 that of the last. Raises
    `UserError` where there is no such layer, or no text encoder. A span's confidence is the mean cosine of the frames'
    embeddings and the matched text embeddings, 0 where it is negative.
    """

    def __init__(self, trained: Trained, layer: int = -1):
        config = trained.config
        if trained.units is None:
            raise UserError(f"{trained.run.root}: has no text encoder (data.units.kind none); align by labels")
        depth, enters = config.model.shared_layers, config.model.text_depth
        if not -depth - 1 <= layer <= depth:
            raise UserError(f"--by {layer}: there are {depth} shared layers; 0 is their input, -1 the last")
        if layer % (depth + 1) < enters:
            raise UserError(
                f"--by {layer}: text enters the shared layers at depth {enters} (model.text_depth); "
                f"name one from {enters} to {depth}"
            )
        super().__init__(trained)
        self._units = trained.units
        self._layer = layer % (depth + 1)
        matching, mesh = config.losses.matching, trained.mesh
        moves = cheapest(matching.alignment)
        structure = model_structure(config, trained.symbols.sizes)

        def best(audio, text, frames, text_frames):
            return align(audio, text, frames, text_frames, moves=moves, cost=matching.cost)

        @jax.jit
        def match(weights, batch):
            model = merge(structure, weights)
            heard = model(batch["audio"], batch["lengths"])
            audio, units = heard.layers[self._layer], batch["units"]
            repeated = repetitions(config.text, batch["unit_lengths"], units.shape[1])
            encoded = model.encode_text(units, repeated, most_frames(config.text, units.shape[1]))
            text = model.shared_of_text(encoded.x, encoded.mask).layers[self._layer - enters]
            frames, text_frames = (mask.sum(axis=1, dtype=jnp.int32) for mask in (heard.mask, encoded.mask))
            found = over_batch(best, mesh)(audio, text, frames, text_frames)
            matched = jnp.take_along_axis(text, found.position[..., None], axis=1)
            unit = jnp.take_along_axis(encoded.unit, found.position, axis=1)
            return unit, cosine(audio, matched), found.feasible

        self._match = match

    def _align_batch(self, batch: JobBatch, heard: list[ReadUtterance | Failed]) -> dict[int, Aligned | Failed]:
        results: dict[int, Aligned | Failed] = {
            job.row: one for job, one in zip(batch.jobs, heard) if isinstance(one, Failed)
        }
        read = [(job, one) for job, one in zip(batch.jobs, heard) if isinstance(one, ReadUtterance)]
        if batch.in_windows:
            why = f"longer than {WINDOW_SECONDS} s, too long for the text's embeddings; align it by labels"
            return results | {job.row: Failed(job.id, why) for job, _ in read}
        arrays = {
            "audio": np.zeros((batch.rows, batch.samples), np.int16),
            "lengths": np.zeros(batch.rows, np.int32),
            "units": np.zeros((batch.rows, batch.units), np.int32),
            "unit_lengths": np.zeros(batch.rows, np.int32),
        }
        for row, (job, one) in enumerate(read):
            arrays["audio"][row, : len(one.audio)] = one.audio
            arrays["lengths"][row] = len(one.audio)
            arrays["units"][row, : len(job.units)] = job.units
            arrays["unit_lengths"][row] = len(job.units)
        found = jax.device_get(self._match(self._trained.weights, put_batch(arrays, self._trained.mesh)))
        for (job, one), unit, similarity, feasible in zip(read, *found):
            frames = self._features.frames(len(one.audio))
            if feasible:
                results[job.row] = self._matched(job, one, unit[:frames], similarity[:frames])
            else:
                why = f"no alignment of {len(job.units)} units with {frames} frames; is it the text of other audio?"
                results[job.row] = Failed(job.id, why)
        return results

    def _matched(self, job: AlignmentJob, heard: ReadUtterance, unit: np.ndarray, similarity: np.ndarray) -> Aligned:
        seconds = self._features.seconds(len(heard.audio))
        symbols = [self._units.symbols[i] for i in job.units]
        frames = frames_of_units(unit, similarity, len(symbols))
        units = unit_spans(symbols, self._units.words(job.text, job.language), frames, self._frame_s, seconds)
        # A word that no unit spells, such as one without phonemes, is skipped too.
        words = every_word(job.text.split(), words_of_units(job.text.split(), units))
        return Aligned(
            id=job.id,
            seconds=seconds,
            text=job.text,
            head=f"layer {self._layer}",
            log_prob=None,
            words=words,
            written=as_written(job.written, self._trained.normalizer, words),
            units=units,
            true=heard.true,
            states_times=heard.states_times,
            channel=job.channel,
        )


def frames_of_units(unit: np.ndarray, similarity: np.ndarray, units: int) -> Frames:
    """Return the frames of each of `units` text units, given the unit that each frame is matched with, int [T],
    non-decreasing.

    A unit without frames begins and ends where the alignment skips it, with score 0.
    """
    order = np.arange(units)
    starts, ends = np.searchsorted(unit, order, "left"), np.searchsorted(unit, order, "right")
    sums = np.concatenate([[0.0], np.cumsum(similarity, dtype=np.float64)])
    return Frames(starts, ends, np.maximum(sums[ends] - sums[starts], 0) / np.maximum(ends - starts, 1))


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the cosine of the angle between embeddings [B, T, D], float32 [B, T]; 0 where one of them is zero."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    norms = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    return jnp.sum(a * b, axis=-1) / jnp.maximum(norms, 1e-9)

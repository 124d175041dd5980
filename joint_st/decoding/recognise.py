"""From a prepared dataset to what both heads say of each utterance, greedily."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx

from joint_st.config import Config, ModelConfig
from joint_st.data.buckets import Buckets
from joint_st.data.pipeline import batches
from joint_st.data.plan import BatchPlan
from joint_st.data.prepared import Prepared
from joint_st.decoding.greedy import greedy
from joint_st.models.functional import Weights, model_structure
from joint_st.parallel.mesh import put_batch

HEADS = ("streaming", "full_context")


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What the heads say of utterance `index` of a prepared dataset."""

    index: int
    seconds: float
    hypotheses: dict[str, str]
    """Text by head."""


def make_forward(config: ModelConfig, vocabulary: int, units: int) -> Callable:
    """Jitted `(weights, audio, audio_lengths) -> (streaming ids, full-context ids, frames)`.

    Ids are each frame's likeliest label, int32 [B, T]; frames are int32 [B].
    """
    structure = model_structure(config, vocabulary, units)

    @jax.jit
    def forward(weights, audio, audio_lengths):
        outputs = nnx.merge(structure, weights)(audio, audio_lengths)
        streaming, full_context = (
            jnp.argmax(logits, axis=-1).astype(jnp.int32) for logits in (outputs.streaming, outputs.full_context)
        )
        return streaming, full_context, outputs.mask.sum(axis=1, dtype=jnp.int32)

    return forward


def common_buckets(config: Config, datasets: list[Prepared]) -> Buckets:
    """Buckets that serve several datasets, so that they share compiled programs."""
    return Buckets.choose(
        np.concatenate([dataset.lengths for dataset in datasets]),
        np.concatenate([dataset.label_lengths for dataset in datasets]),
        count=config.data.buckets,
        multiple=config.model.features.samples_per_frame,
        batch_size=config.evaluation.batch_size,
    )


def recognise(
    forward: Callable,
    weights: Weights,
    dataset: Prepared,
    buckets: Buckets,
    mesh: jax.sharding.Mesh,
    config: Config,
    *,
    name: str = "",
) -> Iterator[Recognised]:
    """Every readable utterance of `dataset` once, the longest first; `name` titles a progress bar."""
    plan = BatchPlan(dataset.lengths, buckets, shuffle=False)
    rate = config.model.features.sample_rate
    read = batches(
        dataset, plan, read_threads=config.data.read_threads, prefetch=config.data.prefetch_batches
    )  # fmt: skip
    bar = tqdm.tqdm(read, total=plan.steps_per_epoch, desc=name, unit="batch", leave=False, disable=None, delay=1)
    for _, batch in bar:
        on_device = put_batch({key: batch[key] for key in ("audio", "audio_lengths")}, mesh)
        *best, frames = jax.device_get(forward(weights, on_device["audio"], on_device["audio_lengths"]))
        decoded = {head: greedy(ids, frames) for head, ids in zip(HEADS, best)}
        for row in np.flatnonzero(batch["valid"]):
            texts = {head: dataset.tokenizer.decode(decoded[head][row]) for head in HEADS}
            yield Recognised(int(batch["index"][row]), float(batch["audio_lengths"][row]) / rate, texts)

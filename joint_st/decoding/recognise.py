"""Decodes the utterances of a prepared dataset with all heads and one or several decoders."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from joint_st.config import Config
from joint_st.data.audio import UnreadableAudio
from joint_st.data.buckets import Buckets
from joint_st.data.dataset import Dataset
from joint_st.data.loader import batches, reading
from joint_st.data.plan import BatchPlan
from joint_st.decoding.decoders import Decoder, Greedy
from joint_st.decoding.forward import Clock
from joint_st.distributed.mesh import fetch, put_batch, rows_here, rows_shared
from joint_st.distributed.peers import current
from joint_st.models.functional import Weights
from joint_st.passes import PASSES


@dataclasses.dataclass(frozen=True)
class Recognised:
    """The hypotheses of the heads for utterance `index` of a prepared dataset."""

    index: int
    seconds: float
    hypotheses: dict[str, dict[str, Any]]
    """Text by decoder and pass, or the result of `spell`."""


def common_buckets(config: Config, datasets: list[Dataset], longest: int | None = None) -> Buckets:
    """Choose buckets for several datasets, so that they share compiled programs.

    longest: samples of the longest bucket, a whole number of frames; longer utterances fit no bucket.
    """
    lengths = np.concatenate([dataset.lengths for dataset in datasets])
    return Buckets.choose(
        lengths if longest is None else np.minimum(lengths, longest),
        np.concatenate([dataset.label_lengths for dataset in datasets]),
        count=config.data.buckets,
        multiple=config.model.features.samples_per_frame,
        batch_size=config.evaluation.batch_size,
    )


def recognise(
    forward: Callable,
    weights: Weights,
    dataset: Dataset,
    buckets: Buckets,
    mesh: jax.sharding.Mesh,
    config: Config,
    *,
    decoders: Sequence[Decoder] = (Greedy(),),
    passes: Sequence[str] = PASSES,
    long: Callable[..., dict] | None = None,
    clock: Clock | None = None,
    name: str = "",
    spell: Callable[[Any], Any] | None = None,
) -> Iterator[Recognised]:
    """Yield every readable utterance of `dataset` once, the longest first.

    With several hosts, each reads and computes its part of a batch, and gets all results.

    forward: a `Forward` of the same decoders and passes. long: a `LongRecordings` of the same decoders and passes, which
    decodes the utterances that fit no bucket; without it they are an error. clock: measures how long decoding takes,
    from the waveforms on the device to labels on the host: the features, the model, the decoders, padding included;
    without compilation, reading audio or turning labels into text. name: title of a progress bar. spell: turns a
    decoder's result into a hypothesis, if that is not the text of its labels.
    """
    if long is not None:
        yield from _recognise_long(long, weights, dataset, buckets, mesh, clock, name, spell)
    plan = BatchPlan(dataset.lengths, buckets, shuffle=False, leave_longer=long is not None)
    if not plan.steps_per_epoch:
        return
    features = config.model.features
    read = batches(
        dataset,
        plan,
        parts=rows_here(mesh),
        shared=rows_shared(mesh),
        **reading(config.data),
    )
    total, hidden = plan.steps_per_epoch, None if current().is_first else True
    for batch in tqdm.tqdm(read, name, total, unit="batch", leave=False, disable=hidden, delay=1):
        paired = batch.arrays["paired"]
        on_device = put_batch({key: paired[key] for key in ("audio", "audio_lengths", "valid")}, mesh)
        lengths, valid = on_device["audio_lengths"], on_device["valid"]
        found = forward(weights, on_device["audio"], lengths, clock=clock)
        found, lengths, valid = fetch((found, lengths, valid))
        labels = {decoder.name: {} for decoder in decoders}
        for decoder, by_pass in zip(decoders, found, strict=True):
            for one, own in zip(passes, by_pass, strict=True):
                with clock.running(decoder.name, one) if clock else contextlib.nullcontext():
                    labels[decoder.name][one] = decoder.on_host(own)
        if clock:
            clock.audio += features.seconds(float(lengths[valid].sum()))
        for row in np.flatnonzero(valid):
            texts = {
                decoder: {one: (spell or dataset.tokenizer.decode)(rows[row]) for one, rows in by_pass.items()}
                for decoder, by_pass in labels.items()
            }
            yield Recognised(int(batch.rows["paired"][row]), features.seconds(float(lengths[row])), texts)


def _recognise_long(
    long: Callable[..., dict], weights: Weights, dataset: Dataset, buckets: Buckets, mesh, clock, name, spell
):
    """Yield the utterances that fit no bucket, the longest first."""
    rows = np.flatnonzero(dataset.lengths > buckets.bounds[-1])
    rows = rows[np.argsort(-dataset.lengths[rows], kind="stable")]
    what, hidden = f"{name}, long recordings".lstrip(", "), None if current().is_first else True
    for n in map(int, tqdm.tqdm(rows, desc=what, leave=False, disable=hidden, delay=1)):
        try:
            audio = dataset.load(n).audio
        except UnreadableAudio as error:
            dataset.note_unreadable(n, error)
            audio = None
        if not _on_all_hosts(audio is not None, mesh):
            continue
        texts = {
            decoder: {one: (spell or dataset.tokenizer.decode)(found) for one, found in by_pass.items()}
            for decoder, by_pass in long(weights, audio, clock).items()
        }
        yield Recognised(n, dataset.features.seconds(len(audio)), texts)


def _on_all_hosts(here: bool, mesh: jax.sharding.Mesh) -> bool:
    """Return whether a condition holds on every host; all hosts must call it together."""
    if not current().several:
        return here
    held, of = rows_here(mesh)
    return bool(np.all(fetch(put_batch({"here": np.full(len(held), here)}, mesh)["here"])))

"""Batches without padding, on which steps are timed."""

from __future__ import annotations

import jax
import numpy as np

from joint_st.config import Config
from joint_st.data.batch import Shape
from joint_st.data.buckets import Buckets
from joint_st.training.compilation import batch_shapes


def full_batch_shapes(
    config: Config,
    rows: int,
    samples: int,
    labels: int,
    units: int,
    mesh: jax.sharding.Mesh,
    texts: int | None = None,
):
    """Return the shapes of a batch of `rows` utterances, and of `texts` texts (by default as many) where the config has
    text, of such lengths."""
    of_units = () if config.data.units.kind == "none" else (units,)
    buckets = {"paired": Buckets((samples,), (labels,), (rows,), of_units)}
    if config.data.text_batch_size:
        buckets["text"] = Buckets((units,), (labels,), (rows if texts is None else texts,), (units,))
    return batch_shapes(buckets, Shape(0, 0), mesh)


def random_batch(shapes, vocabulary: int, inventory: int) -> dict[str, dict[str, np.ndarray]]:
    """Return random audio, labels and units of such shapes, each of full length."""
    rng = np.random.default_rng(0)
    ranges = {"audio": (-3000, 3000), "labels": (2, vocabulary), "units": (2, inventory)}
    length_of = {"audio_lengths": "audio", "label_lengths": "labels", "unit_lengths": "units"}

    def field(name: str, arrays):
        like = arrays[name]
        if name in ranges:
            return rng.integers(*ranges[name], like.shape).astype(like.dtype)
        full = arrays[length_of[name]].shape[1] if length_of.get(name) in arrays else 0
        # What is not named is nothing that CTC could miss: no frames needed, no durations, no language.
        return np.full(like.shape, True if name == "valid" else full, like.dtype)

    return {part: {name: field(name, arrays) for name in arrays} for part, arrays in shapes.items()}

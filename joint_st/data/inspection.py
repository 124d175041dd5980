"""What a config reads: utterances, hours, what is left out and why, buckets and padding."""

from __future__ import annotations

from collections.abc import Iterator

from joint_st.config import Config
from joint_st.data.dataset import open_paired, open_texts
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import text_plan, training_plan
from joint_st.data.texts import learn_from_texts, open_indexes


def inspect(config: Config) -> Iterator[str]:
    """Lines about each split, as it is found; no audio is decoded."""
    data, features = config.data, config.model.features
    normalize = normalizer(data.normalizer)
    indexes = open_indexes(config)
    symbols, vocabulary = learn_from_texts(config, indexes)
    tokenizer, units = symbols.labels, symbols.units
    yield f"tokenizer: {tokenizer.kind}, {tokenizer.size} labels, the CTC blank included"
    if units:
        yield f"units: {data.units.kind}, {units.size}, padding and unknown included"
    yield f"words: {len(vocabulary.heard)} heard in training, {len(vocabulary.read)} only read"

    splits = {"train": data.train, "dev": data.dev}
    splits |= {f"test.{name}": (source,) for name, source in data.test.items()}
    for name, sources in splits.items():
        if not sources:
            continue
        training = name == "train"
        made_with = data, features, normalize, tokenizer, units
        prepared = open_paired(sources, *made_with, training=training, indexes=indexes)
        yield f"{name}: {prepared.describe()}"
        if units:
            total = int(prepared.unit_lengths.sum())
            yield f"  {total / len(prepared):.1f} units per utterance, {total / prepared.seconds:.1f} per second"
        if training:
            plan = training_plan(prepared, data, config.seed)
            yield f"  {plan.describe(features.sample_rate, 's')}"
    if data.text_batch_size:
        assert units is not None  # the schema
        texts = open_texts(data, normalize, tokenizer, units, indexes=indexes)
        yield f"text: {texts.describe()}"
        yield f"  {text_plan(texts, data, config.seed).describe(1, 'units')}"

"""What a config reads: utterances, hours, what is left out and why, buckets and padding."""

from __future__ import annotations

from collections.abc import Iterator

from joint_st.config import Config
from joint_st.data.normalizers import normalizer
from joint_st.data.pipeline import prepare, training_plan
from joint_st.data.texts import train_tokenizer, training_vocabulary


def inspect(config: Config) -> Iterator[str]:
    """Lines about each split, as it is found; no audio is decoded."""
    data, features = config.data, config.model.features
    normalize = normalizer(data.normalizer)
    tokenizer = train_tokenizer(config)
    yield f"tokenizer: {data.tokenizer.kind}, {tokenizer.size} units, the CTC blank included"
    vocabulary = training_vocabulary(data)
    yield f"words: {len(vocabulary.heard)} heard in training, {len(vocabulary.read)} only read"

    splits = {"train": data.train, "dev": data.dev}
    splits |= {f"test.{name}": (source,) for name, source in data.test.items()}
    for name, sources in splits.items():
        if not sources:
            continue
        training = name == "train"
        prepared = prepare(sources, data, features, normalize, tokenizer, training=training)
        yield f"{name}: {prepared.describe()}"
        if training:
            plan = training_plan(prepared, data, config.seed)
            yield f"  {plan.describe(features.sample_rate, 's')}"

"""Shapes assumed without data are compared with those planned from data."""

import pytest

from joint_st.compile_check.shapes import describe_batch, heaviest, sizes
from joint_st.config import override
from joint_st.data.dataset import open_paired, open_texts
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import text_plan, training_plan
from joint_st.data.texts import learn_from_texts
from tests.tiny import tiny_config

TEXT = {"data.units.kind": "phonemes", "data.text_batch_size": 4, "losses.reconstruction.full_context": 0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"data.tokenizer.kind": "characters"},
        {"data.tokenizer.kind": "sentencepiece"},
        {"data.max_seconds": 1.5, "data.augmentation": [{"kind": "speed", "factors": [0.8, 1.0]}]},
    ],
    ids=str,
)
def test_planned_buckets_are_within_the_assumed(corpora, changes):
    """Speech of the quickstart's corpus, slowed down too, and its inventories."""
    spelling = {"data.tokenizer.vocabulary_size": 64, "data.max_seconds": 5.0, "data.max_text_units": 80}
    config = tiny_config(corpora, TEXT | spelling | changes)
    learnt, normalize = learn_from_texts(config).symbols, normalizer(config.data.normalizer)
    prepared = open_paired(
        config.data.train, config.data, config.model.features, normalize, learnt.labels, learnt.units, training=True
    )
    texts = open_texts(config.data, normalize, learnt.labels, learnt.units)
    planned = {
        "paired": training_plan(prepared, config.data, 0).buckets,
        "text": text_plan(texts, config.data, 0).buckets,
    }
    for part, assumed in heaviest(config).items():
        real = planned[part]
        assert real.batch_sizes[-1] == assumed.batch_sizes[0]
        for name in ("bounds", "label_bounds", "unit_bounds"):
            assert max(getattr(real, name)) <= getattr(assumed, name)[0], name
    if "data.augmentation" in changes:
        assert max(planned["paired"].bounds) > 1.5 * 16_000
    assumed = sizes(config).sizes
    assert learnt.labels.size <= assumed.labels
    assert learnt.units.size <= assumed.units


def test_sizes_come_from_the_command_then_the_config(tmp_path):
    from joint_st.data.tokenizers import Characters

    config = tiny_config(tmp_path, TEXT)
    assert sizes(config, 7, 9) == ((7, 9, 1), ())
    assert sizes(config) == ((32, 128, 1), ("32 characters (--labels N)", "128 phonemes (--units N)"))
    spelled = override(config, {"data.tokenizer.kind": "sentencepiece", "data.tokenizer.vocabulary_size": 500})
    assert sizes(spelled, units=9) == ((500, 9, 1), ())
    Characters("abc").save(tmp_path / "tokenizer")
    saved = override(config, {"data.tokenizer.path": str(tmp_path / "tokenizer"), "data.units.kind": "characters"})
    assert sizes(saved) == ((5, 32, 1), ("32 characters (--units N)",))
    without = tiny_config(tmp_path)
    assert sizes(without, 7, 9) == ((7, 0, 1), ())


def test_the_longest_batch_is_as_the_config_says(tmp_path):
    config = tiny_config(tmp_path, TEXT | {"data.max_seconds": 9.99, "data.max_text_units": 40, "data.batch_size": 12})
    speech, text = heaviest(config)["paired"], heaviest(config)["text"]
    assert speech.bounds == (160_000,)  # 250 frames of 40 ms
    assert speech.label_bounds == (200,)  # 20 a second
    assert speech.unit_bounds == (40,)  # fewer than 18 a second: longer texts take part with their audio alone
    assert (text.bounds, text.label_bounds) == ((40,), (48,))
    said = "12 × 10 s of speech with 200 labels, 40 text units; 4 texts of 40 text units, 48 labels"
    assert describe_batch(config, heaviest(config)) == said

"""Sources, mixtures and augmentations that a test adds, in configs, in batches and in training."""

import json
from collections import Counter

import numpy as np
import pytest

from joint_st.cli.options import read_sources
from joint_st.config import (
    Config,
    DataConfig,
    FeaturesConfig,
    UnitsConfig,
    describe,
    load,
    override,
    parse_source,
    save,
)
from joint_st.data.dataset import open_paired
from joint_st.data.loader import BatchLoader
from joint_st.data.normalizers import normalizer
from joint_st.data.plan import training_plan
from joint_st.data.sources import open_source
from joint_st.data.text_units import make_units
from joint_st.data.tokenizers import Characters
from joint_st.errors import UserError
from tests.data import toys

BASIC = normalizer("basic")
CHARACTERS = Characters(" ehnortw")
FEATURES = FeaturesConfig()


@pytest.fixture
def kinds():
    with toys.kinds() as sections:
        yield sections


def ready(data, seed=0, units=None):
    dataset = open_paired(data.train, data, FEATURES, BASIC, CHARACTERS, units, training=True)
    return dataset, training_plan(dataset, data, seed)


def test_a_kind_works_wherever_a_config_is_written(kinds, tmp_path):
    Tones, Weighted, Slower = kinds
    config = Config(data=DataConfig(train=(Tones(count=3),)))
    given = {"data.train.0.kind": "tones", "data.train.0.count": "3"}
    assert override(Config(data={"train": ["x"] and [{"kind": "manifest", "path": "x"}]}), given) == config
    assert override(config, {"data.train": "tones:3"}) == override(
        config, {"data.train.0": {"kind": "tones", "count": 3}}
    )
    assert parse_source("tones:3") == Tones(count=3) == read_sources(["mine=tones:3"])["mine"]
    mixed = {"data.mixture": '{"kind": "weighted", "weights": {"a": 1}}', "data.augmentation": "slower,slower"}
    config = override(config, mixed | {"data.augmentation.1.factor": "3"})
    assert config.data.mixture == Weighted(weights={"a": 1.0})
    assert config.data.augmentation == (Slower(), Slower(factor=3))
    save(config, tmp_path / "config.json")
    assert load(tmp_path / "config.json") == config
    (tmp_path / "c.py").write_text(
        f"from joint_st.config import Config\ndef config(): return Config(**{config.model_dump()})"
    )
    assert load(tmp_path / "c.py") == config
    assert "tones: count, hz, notes" in describe(config) and "--data.mixture MIXTURE" in describe(config)
    # The first field of this kind is a tuple.
    assert override(config, {"data.augmentation": "speed:0.9"}).data.augmentation[0].factors == (0.9,)
    for changes, message in (
        ({"data.train.0.hz": "high"}, "data.train.0.hz = high: should be a valid number"),
        ({"data.train.0.herz": "1"}, r"data.train.0.herz: unknown key \(= 1\); did you mean data.train.0.hz"),
        ({"data.mixture": "equal"}, "data.mixture.kind = equal: should be 'every_row' or 'weighted'"),
        ({"data.mixture": "every_row:1"}, "every_row:1: this kind takes nothing after the colon"),
        ({"data.train": "tones:few"}, "data.train.0.count = few: should be a valid integer"),
    ):
        with pytest.raises(UserError, match=message):
            override(config, changes)


def test_a_kind_that_is_gone_is_refused_by_name(tmp_path):
    with toys.kinds() as (Tones, _, _):
        save(Config(data=DataConfig(train=(Tones(count=3),))), tmp_path / "config.json")
    with pytest.raises(UserError, match="data.train.0.kind = tones: should be 'manifest', 'tfds' or 'text'"):
        load(tmp_path / "config.json")
    json.loads((tmp_path / "config.json").read_text())


def test_a_kind_is_taken_once(kinds):
    with pytest.raises(ValueError, match="tones is taken already, by Tones of .*toys.py"), toys.kinds():
        pass


def test_a_source_of_its_own_makes_batches(kinds):
    dataset, plan = ready(DataConfig(train=(kinds[0](count=7),), batch_size=2))
    assert open_source(kinds[0](count=7)).name == "tones-440"
    for i in range(plan.steps_per_epoch):
        batch = BatchLoader(dataset, plan)(i)
        for b, n in enumerate(batch.rows["paired"]):
            if n >= 0:
                assert batch.arrays["paired"]["audio_lengths"][b] == 2 * toys.RATE * (3 + n % 5) // 4
                assert CHARACTERS.decode(batch.arrays["paired"]["labels"][b]) == toys.TEXTS[n % 3]


def test_a_mixture_draws_corpora_by_weight_and_is_a_function_of_the_seed_and_the_step(kinds):
    Tones, Weighted, _ = kinds
    weights = {"tones-440": 1, "tones-880": 3}
    train = (Tones(count=40), Tones(count=40, hz=880))
    data = DataConfig(train=train, mixture=Weighted(weights=weights), batch_size=4, buckets=2)
    dataset, plan = ready(data)
    _, natural = ready(data.model_copy(update={"mixture": DataConfig(train=train).mixture}))
    assert (plan.buckets, plan.steps_per_epoch) == (natural.buckets, natural.steps_per_epoch)
    drawn = Counter()
    for i in range(60 * plan.steps_per_epoch):
        bucket, rows = plan[i]
        assert len(rows) == plan.buckets.batch_sizes[bucket]
        rows = rows[rows >= 0]
        assert (plan.buckets.of(dataset.lengths[rows]) == bucket).all()
        drawn.update(dataset.corpora[k] for k in dataset.corpus_of[rows])
    assert drawn.total() == 60 * 80
    assert drawn["tones-880"] / drawn.total() == pytest.approx(0.75, abs=0.02)
    for seed, same in ((0, True), (1, False)):
        _, again = ready(data, seed)
        equal = [np.array_equal(again[i].rows, plan[i].rows) for i in range(plan.steps_per_epoch)]
        assert all(equal) if same else not all(equal)


def test_augmented_speech_fits_its_bucket_and_is_a_function_of_seed_step_and_row(kinds):
    Tones, _, Slower = kinds
    train = (Tones(count=20),)
    units = make_units(UnitsConfig(kind="characters"), [(text, "") for text in toys.TEXTS])
    dataset, plan = ready(DataConfig(train=train, augmentation=(Slower(),), batch_size=4, buckets=3), 5, units)
    natural, _ = ready(DataConfig(train=train), units=units)
    assert plan.buckets.bounds[-1] >= 2 * natural.lengths.max()
    assert dataset.fingerprint == natural.fingerprint
    load, slowed = BatchLoader(dataset, plan), []
    for i in range(2 * plan.steps_per_epoch):
        batch, again = load(i).arrays["paired"], load(i).arrays["paired"]
        for b, n in enumerate(plan[i].rows):
            if n < 0:
                continue
            np.testing.assert_array_equal(batch["audio"][b], again["audio"][b])
            plain, length = natural.load(int(n)), batch["audio_lengths"][b]
            factor = length // len(plain.audio)
            slowed.append(factor == 2)
            np.testing.assert_array_equal(batch["audio"][b, :length], np.repeat(plain.audio, factor))
            if plain.unit_ends.any():
                assert batch["unit_ends"][b].max() == pytest.approx(factor * plain.unit_ends.max(), abs=1)
    assert 10 < sum(slowed) < 30 and len(slowed) == 40
    example = dataset.load(3)
    assert len(example.audio) == natural.lengths[3]  # evaluation draws nothing


@pytest.mark.slow
def test_a_run_trains_on_kinds_of_its_own(kinds, tmp_path, corpora):
    from joint_st.training.asr import train_asr
    from tests.tiny import tiny_config

    changes = {
        "data.train": "tones:8,tones:8",
        "data.train.1.hz": 880,
        "data.mixture": {"kind": "weighted", "weights": {"tones-440": 1, "tones-880": 2}},
        "data.augmentation": "slower",
        "data.dev": "tones:4",
        "data.test": {},
        "data.text": [],
    }
    train_asr(override(tiny_config(corpora), changes | {"training.steps": 3}), tmp_path / "run")
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) > 1
    assert load(tmp_path / "run").data.train[1] == kinds[0](count=8, hz=880)

"""Every field of a language model's own sections changes something; those it shares are in `test_config_fields`."""

from __future__ import annotations

import itertools
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.config import LmConfig, LmDataConfig, LmModelConfig, TextSource, override
from joint_st.config.tree import leaves
from joint_st.data.loader import text_batches
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import Characters
from joint_st.distributed.mesh import make_mesh
from joint_st.runs.directory import open_run
from joint_st.training.lm import init_lm_state, make_lm_init, make_lm_step, open_lm_data
from tests.batches import completed

VOCABULARY = 7


def read(config: LmConfig, folder) -> list:
    """Tokenizer, dev set, the first batches, and whether the index is kept where it is asked to."""
    run = open_run(folder, config)
    lm = open_lm_data(config, run, normalizer(config.data.normalizer))
    prefetched = []
    with pytest.MonkeyPatch.context() as patch:
        true_options = grain.ReadOptions

        def read_options(**options):
            prefetched.append(options)
            return true_options(**options)

        patch.setattr(grain, "ReadOptions", read_options)
        read = text_batches(lm.texts, lm.plan, prefetch=config.data.prefetch_batches)
        batches = list(itertools.islice(read, 3))
    dev = lm.dev and list(lm.dev.texts())
    seen = [{name: rows.tolist() for name, rows in batch.arrays["text"].items()} for batch in batches]
    kept = Path(config.data.index_cache or "no such folder").is_dir()
    return [dev, seen, prefetched, kept, (run.tokenizer / "tokenizer.json").read_bytes(), lm.tokenizer.size]


def step(config: LmConfig, folder) -> list:
    """Return the training step as it is compiled, and its first weights."""
    rows, lengths = jax.ShapeDtypeStruct((4, 5), jnp.int32), jax.ShapeDtypeStruct((4,), jnp.int32)
    batch = {"text": {"labels": rows, "label_lengths": lengths, "valid": jax.ShapeDtypeStruct((4,), jnp.bool_)}}
    mesh = make_mesh(config.parallel)
    with jax.set_mesh(mesh):
        state = jax.eval_shape(lambda: init_lm_state(config, VOCABULARY, jnp.uint32(0)))
        return [make_lm_step(config, VOCABULARY, mesh).lower(state, batch).as_text()]


FIELDS = {
    "seed": (1, read),
    "data.train.0.path": ("{place}/other.txt", read),
    "data.dev.0.path": ("{place}/other.txt", read),
    "data.train.0.leave_out": ("[0-9]", read),
    "data.dev.0.leave_out": ("[0-9]", read),
    "data.normalizer": ("none", read),
    "data.tokenizer.kind": ("sentencepiece", read),
    "data.tokenizer.vocabulary_size": (25, read),
    "data.tokenizer.path": ("{place}/tokenizer", read),
    "data.batch_size": (3, read),
    "data.buckets": (1, read),
    "data.max_labels": (20, read),
    "data.prefetch_batches": (3, read),
    "data.index_cache": ("{place}/index", read),
    "model.width": (12, step),
    "model.layers": (3, step),
    "model.tied": (True, step),
    "model.dropout": (0.2, step),
    "optimizer.peak_learning_rate": (1e-3, step),
}
GIVEN = {"data.tokenizer.vocabulary_size": {"data.tokenizer.kind": "sentencepiece"}}
SHARED = {"kind", "name", *(f"data.{name}.0.{field}" for name in ("train", "dev") for field in ("kind", "language"))}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> LmConfig:
    place = tmp_path_factory.mktemp("fields")
    texts = ("A sentence.", "And 2 more sentences, longer ones, to read.", "No.", "Yes it is so.")
    (place / "train.txt").write_text("\n".join(3 * texts) + "\n")
    (place / "other.txt").write_text("Quite another one; it is here to be read.\nNo.\n")
    Characters(" abcdefghijklmnopqrstuvwxyz").save(place / "tokenizer")
    data = LmDataConfig(
        train=(TextSource(path=str(place / "train.txt")),),
        dev=(TextSource(path=str(place / "train.txt").replace("train", "dev")),),
        batch_size=2,
        buckets=2,
        tokenizer={"vocabulary_size": 23},
    )
    (place / "dev.txt").write_text("Yes it is so.\nNo, 2 of them.\n")
    return LmConfig(data=data, model=LmModelConfig(width=8, layers=1))


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_changes_something(config, path, tmp_path):
    value, probe = FIELDS[path]
    place = config.data.train[0].path.removesuffix("/train.txt")
    before = override(config, GIVEN.get(path, {}))
    after = override(before, {path: value.format(place=place) if isinstance(value, str) else value})
    assert before != after
    assert probe(before, tmp_path / "a") != probe(after, tmp_path / "b")


def test_the_table_has_all_fields(config):
    shared = ("optimizer", "training", "parallel")
    own = {leaf.path for leaf in leaves(config) if leaf.path.partition(".")[0] not in shared}
    assert own == (set(FIELDS) - {"optimizer.peak_learning_rate"}) | SHARED


def test_a_step_lowers_the_loss_of_its_own_batch_and_counts_what_there_is(config):
    mesh = make_mesh(config.parallel)
    rng = np.random.default_rng(0)
    text = {
        "labels": rng.integers(1, VOCABULARY, (4, 5)).astype(np.int32),
        "label_lengths": np.array([5, 3, 1, 4], np.int32),
        "valid": np.array([True, True, True, False]),
    }
    batch = {"text": completed("text", text)}
    config = override(config, {"model.dropout": 0, "optimizer.warmup_steps": 0, "optimizer.peak_learning_rate": 0.01})
    losses = []
    with jax.set_mesh(mesh):
        state = make_lm_init(config, VOCABULARY, mesh)()
        train_step = make_lm_step(config, VOCABULARY, mesh)
        for _ in range(12):
            state, metrics = train_step(state, batch)
            total, count = map(float, metrics["loss"])
            assert count == 5 + 3 + 1 + 3 and float(metrics["texts"][0]) == 3
            assert total == pytest.approx(float(metrics["text_loss"].sum()), rel=1e-5)
            assert float(metrics["text_loss"][3]) == 0
            losses.append(total / count)
    assert losses[0] == pytest.approx(np.log(VOCABULARY), rel=0.3)
    assert losses[-1] < 0.7 * losses[0]

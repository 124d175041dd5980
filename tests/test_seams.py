"""Ten changes, each made in this file (and the toys that it imports) without touching the package.

| change | here |
|---|---|
| a loss, which asks for a second masking of the audio | `Agreement` |
| a column of metrics | `agreement_distance`, which that loss monitors |
| a head that keeps state over labels | `tests/heads/toy.py` |
| a source of utterances | `Tones` of `tests/data/toys.py` |
| a mixture of corpora | `Weighted` of `tests/data/toys.py` |
| an augmentation | `Slower` of `tests/data/toys.py` |
| an embedding of the language | `LanguageEmbedding` |
| an alignment | `LastPosition` |
| weights of others | `foreign_run`, whose weights have other names |
| a launcher | `launcher`, a script |
"""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pydantic import Field

from joint_st.cli import main
from joint_st.config import ConditionConfig, LossConfig, TextSource, load, override, register, save
from joint_st.config.registry import unregister
from joint_st.distributed.mesh import make_mesh
from joint_st.heads.model import model_structure
from joint_st.kinds import ALIGNMENTS as ALIGNMENTS_BY_NAME
from joint_st.losses import Column, Found, Loss, Pass, register_loss
from joint_st.losses.base import LOSSES, audio_frames
from joint_st.models.conditioning import CONDITIONINGS, Conditioning, register_conditioning
from joint_st.ops.masks import length_mask
from joint_st.ops.matching.base import PathAlignment, one_position
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import read_symbols
from joint_st.training.step import AGAIN_KEY, make_init
from tests.data import toys
from tests.heads import toy as toy_head
from tests.tiny import saved_arrays, tiny_config
from tests.training.test_joint_step import JOINT, joint_batch
from tests.training.test_step import Steps, make_batch

# A loss that asks for a second masking of the audio, and the column that it monitors.


@pytest.fixture(autouse=True, scope="module")
def toy_kinds():
    """The kinds that this file adds, as long as its tests last."""

    @register("losses.agreement")
    class AgreementConfig(LossConfig):
        """Pulls the full-context embeddings under two maskings of one utterance together."""

        weight: float = Field(default=0.0, ge=0)
        """Weight of the loss."""

    @register("conditioning.language")
    class LanguageConfig(ConditionConfig):
        """The language of an utterance or a text."""

    @ALIGNMENTS_BY_NAME.register("last_position")
    class LastPosition(PathAlignment):
        """Every frame with the last text position."""

        def runs(self, sides, key):
            last = jnp.broadcast_to(sides.text_lengths[:, None] - 1, sides.audio.shape[:2])
            return one_position(jnp.maximum(last, 0), sides)

    register_loss("agreement")(Agreement)
    register_conditioning("language")(LanguageEmbedding)
    with toy_head.registered():
        yield
    LOSSES.forget("agreement")
    CONDITIONINGS.forget("language")
    ALIGNMENTS_BY_NAME.forget("last_position")
    unregister("conditioning.language")
    unregister("losses.agreement")


class Agreement(Loss):
    """The mean squared distance of two passes over one utterance, over frames and numbers."""

    columns = (
        Column("agreement", "Agreement of two maskings"),
        Column("agreement_distance", weighted_by="agreement"),
    )

    @property
    def passes(self):
        return frozenset({Pass.AUDIO, Pass.AUDIO_AGAIN})

    def scales(self, step):
        return {"agreement": self.section.weight}

    def weights(self, batch, available):
        if not self.passes <= available:
            return {}
        frames = jnp.where(batch["paired"]["valid"], audio_frames(self.config, batch), 0)
        return {"agreement": {Pass.AUDIO: frames.astype(jnp.float32)}}

    def values(self, passes, batch, available, key, mesh):
        if not self.passes <= available:
            return Found({})
        one, two = (passes.audio[which].full_context for which in (Pass.AUDIO, Pass.AUDIO_AGAIN))
        mask = passes.audio[Pass.AUDIO].mask
        squares = jnp.where(mask[..., None], jnp.square(one - two), 0).sum((1, 2))
        value = squares / jnp.maximum(mask.sum(1) * one.shape[-1], 1)
        # A root has no gradient at 0: what is only monitored must not bring one in.
        distance = jnp.sqrt(jax.lax.stop_gradient(value))
        return Found({"agreement": {Pass.AUDIO: value}}, {"agreement_distance": {Pass.AUDIO: distance}})


@pytest.mark.slow
def test_a_loss_on_two_maskings_is_what_it_is_by_hand():
    steps = Steps({"losses.agreement.weight": 0.5, "spec_augment": {"frequency_masks": 2, "frequency_width": 4}})
    state, batch = steps.warm(), make_batch()
    _, metrics = steps(state, batch)

    # The keys of a step, as `joint_st.training.step` draws them.
    key, _ = jax.random.split(jax.random.fold_in(jax.random.key(state.seed), state.step))
    first = jax.random.split(key, 4)[0]
    structure, paired = model_structure(steps.config, steps.sizes), batch["paired"]

    @jax.jit
    def embeddings(weights, key):
        model = nnx.merge(structure, weights)
        return model(paired["audio"], paired["audio_lengths"], steps.config.spec_augment, key).full_context

    with jax.set_mesh(steps.mesh):
        one, two = (np.asarray(embeddings(state.params, key)) for key in (first, jax.random.fold_in(first, AGAIN_KEY)))
    frames = -(-paired["audio_lengths"] // 640) * paired["valid"]
    mask = np.asarray(length_mask(frames, one.shape[1]))
    per_row = [np.square(a - b)[here].mean() if here.any() else 0.0 for a, b, here in zip(one, two, mask)]
    total, count = metrics["agreement"]
    assert count == frames.sum() and total > 0
    assert total == pytest.approx(np.sum(np.array(per_row) * frames), rel=1e-4)
    assert metrics["agreement_distance"][0] == pytest.approx(np.sum(np.sqrt(per_row) * frames), rel=1e-4)
    others = sum(
        weight * np.divide(*metrics[f"{name}_ctc"]) for name, weight in (("streaming", 0.3), ("full_context", 0.7))
    )
    assert metrics["loss"][0] == pytest.approx(others + 0.5 * total / count, rel=1e-5)
    assert np.isfinite(metrics["gradient_norm"][0])


# An embedding of the language.


class LanguageEmbedding(Conditioning):
    """Adds an embedding of the language to every frame."""

    columns = ("language",)

    def __init__(self, section, width, sizes, *, rngs):
        self.embed = nnx.Embed(sizes.languages, width, rngs=rngs)

    def __call__(self, x, columns):
        return x + self.embed(columns["language"])[:, None].astype(x.dtype)


@pytest.mark.slow
def test_a_language_embedding_hears_the_column_and_learns_what_it_meets():
    steps = Steps({**JOINT, "conditioning.language.on": True}, languages=3)
    state, batch = steps.init(), joint_batch()
    for part in batch.values():
        part["language"][:] = 2
    first, metrics = steps(state, batch)
    batch["paired"]["language"][:] = 1
    _, other = steps(state, batch)
    assert metrics["loss"][0] != other["loss"][0], "the column makes a difference"
    after, _ = steps(first, batch)
    before, moved = (x.params["language_conditioning"]["embed"]["embedding"] for x in (first, after))
    assert before.shape == (3, 8)
    # Speech was of language 1 and 2, texts of 2: row 0, the unknown one, was met by nobody.
    assert np.array_equal(before[0], moved[0]) and (before[1:] != moved[1:]).any(axis=1).all()


# A launcher.


def test_a_launcher_is_a_script(tmp_path, monkeypatch):
    from joint_st.sweeps.launchers import find_launcher

    (tmp_path / "toy.sh").write_text("#!/bin/sh\n")
    (tmp_path / "toy.sh").chmod(0o755)
    found = find_launcher("toy", ["--queue", "{run}"], scripts=tmp_path)
    assert found.script == tmp_path / "toy.sh" and found.options == ("--queue", "{run}")


# All at once: a run on a source, a mixture and an augmentation of its own, by a head of its own and with an alignment
# of its own, from weights of another run whose names are others.


def foreign_run(config, folder: Path) -> Path:
    """Return a run whose weights begin with other names than ours, as another project's may; its step is 7."""
    from joint_st.runs.directory import open_run
    from joint_st.training.setup import open_symbols

    run, mesh = open_run(folder, config), make_mesh(config.parallel)
    symbols = open_symbols(config, run)
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, keep_latest=1, keep_best=1) as checkpoints:
        state = make_init(override(config, {"seed": 5}), symbols.sizes, mesh)()
        renamed = {f"theirs_{name}": weights for name, weights in state.params.items()}
        facts = {"normalizer": "basic v2", "step": 7, "wer": 1.0, "data": ""}
        checkpoints.save(7, state._replace(params=renamed, average=renamed), facts, 1.0)
    return run.root


@pytest.mark.slow
def test_a_run_of_toys_alone(tmp_path, corpora):
    with toys.kinds() as (Tones, Weighted, Slower):
        (tmp_path / "text.txt").write_text("one two\nthree\ntwo two\none\n")
        changes = {
            "data.train": (Tones(count=12), Tones(count=12, hz=880)),
            "data.dev": (Tones(count=4),),
            "data.test": {"tones": Tones(count=4)},
            "data.text": (TextSource(path=str(tmp_path / "text.txt")),),
            "data.text_batch_size": 2,
            "data.units.kind": "characters",
            "data.normalizer": "basic",
            "data.mixture": Weighted(weights={"tones-440": 1, "tones-880": 3}),
            "data.augmentation": (Slower(),),
            "heads.streaming": "toy",
            "heads.full_context": "toy",
            "losses.agreement.weight": 0.1,
            "losses.consistency.weight": 0.1,
            "losses.consistency.alignment": "last_position",
            "losses.reconstruction.full_context": 0.5,
            "conditioning.language.on": True,
            "training.steps": 4,
            "training.log_every": 1,
            "training.evaluate_every": 2,
        }
        config = tiny_config(corpora, changes)
        other = foreign_run(config, tmp_path / "theirs")
        save(config, tmp_path / "mine.json")
        assert load(tmp_path / "mine.json") == config
        command = ["train", str(tmp_path / "mine.json"), "--workdir", str(tmp_path / "run")]
        command += ["--training.init.run", str(other), "--training.init.rename", '{"theirs_*": "*"}']
        assert main([*command, "--losses.agreement.weight", "0.2"]) == 0

        rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
        steps = [row for row in rows if row["loss"]]
        assert [row["step"] for row in steps] == ["1", "2", "3", "4"]
        for name in ("agreement", "agreement_distance", "consistency", "full_context_ctc", "gradient_norm"):
            assert all(np.isfinite(float(row[name])) for row in steps), name
        assert any(row["dev_full_context_wer"] for row in rows)
        ours = load(tmp_path / "run")
        assert ours.losses.agreement.weight == 0.2 and ours.training.init.run == str(other)
        # The learning rate of the first step is 0, so the checkpoint of step 2 is one step from what was taken.
        theirs, found = saved_arrays(other, 7), saved_arrays(tmp_path / "run", 4)
        assert {name.replace("theirs_", "") for name in theirs if name.startswith("params.")} == {
            name for name in found if name.startswith("params.")
        }
        symbols = read_symbols(ours, RunDirectory(tmp_path / "run"))
        assert symbols.languages == ("", "en")

        # The same command goes on to the bit where a checkpoint is lost.
        metrics = (tmp_path / "run" / "metrics.csv").read_text()
        import shutil

        shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
        assert main([*command, "--losses.agreement.weight", "0.2"]) == 0
        again = saved_arrays(tmp_path / "run", 4)
        for name, array in found.items():
            np.testing.assert_array_equal(again[name], array, err_msg=name)

        def without_speed(text):
            lines = [line.split(",") for line in text.splitlines()]
            speed = lines[0].index("audio_seconds_per_second")
            return [line[:speed] + line[speed + 1 :] for line in lines]

        assert without_speed((tmp_path / "run" / "metrics.csv").read_text()) == without_speed(metrics)

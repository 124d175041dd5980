"""Effects of config fields: each probe does with a config what the program does, and returns a fingerprint of the
result."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from joint_st.config import Config
from joint_st.data import corpora as corpora_module
from joint_st.data import dataset, loader
from joint_st.data.batch import FIELDS as BATCH_FIELDS
from joint_st.data.confusions import Confusions
from joint_st.data.normalizers import normalizer
from joint_st.data.sources import open_source
from joint_st.data.symbols import Symbols, SymbolSizes
from joint_st.data.tokenizers import Characters
from joint_st.data.vocabulary import Vocabulary
from joint_st.distributed.mesh import make_mesh
from joint_st.errors import UserError
from joint_st.evaluation import evaluate
from joint_st.evaluation.scorer import Scorer
from joint_st.heads.model import model_structure, weight_shapes
from joint_st.runs.directory import RunDirectory
from joint_st.runs.trained import Trained
from joint_st.training import asr, loop, setup
from joint_st.training.compilation import Programs
from joint_st.training.optimizer import make_optimizer
from joint_st.training.step import TrainState, init_state, make_train_step
from tests.training import toy_run

SIZES, ROWS, FRAMES, LABELS = SymbolSizes(7, 9), 4, 12, 3

CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
"""Settings of the process that a run makes for its compilation cache."""


def forward(config: Config, place) -> str:
    """Return the model as it is traced, dropout and SpecAugment on."""
    structure, audio, lengths = model_structure(config, SIZES), *_audio(config)
    model = jax.jit(lambda weights, key, *audio: nnx.merge(structure, weights)(*audio, config.spec_augment, key))
    weights = weight_shapes(config, SIZES)
    return _traced(model, weights, jax.random.key(0), audio, lengths)


def step(config: Config, place, confusions: Confusions | None = None) -> str:
    """Return the training step as it is traced."""
    widths = {"samples": FRAMES * config.model.features.samples_per_frame, "labels": LABELS, "units": LABELS}
    batch = {
        part: {
            name: jax.ShapeDtypeStruct((ROWS, *([widths[field.axis]] if field.axis else [])), field.dtype)
            for name, field in fields.items()
        }
        for part, fields in BATCH_FIELDS.items()
    }
    mesh = make_mesh(config.parallel)
    with jax.set_mesh(mesh):
        state = jax.eval_shape(lambda: init_state(config, SIZES, jnp.uint32(0)))
        return _traced(make_train_step(config, SIZES, mesh, confusions=confusions), state, batch)


def confused(config: Config, place) -> str:
    """Return `loss` of a step whose text is confused as some counts say."""
    symbols, counts = tuple("abcdefghi"), np.eye(SIZES.units, dtype=int) + 1
    return loss(config, place, Confusions(symbols, counts, counts[0]))


def loss(config: Config, place, confusions: Confusions | None = None) -> str:
    """Return the loss of a training step as it is traced, without its gradient, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            jax, "value_and_grad", lambda function, has_aux: lambda params, *rest: (function(params, *rest), params)
        )
        return step(config, place, confusions)


def _audio(config):
    samples = FRAMES * config.model.features.samples_per_frame
    return jax.ShapeDtypeStruct((ROWS, samples), jnp.int16), jax.ShapeDtypeStruct((ROWS,), jnp.int32)


def updates(config: Config, place) -> str:
    """Return the update of a matrix by the optimizer as it is traced."""
    params = {"streaming": {"layers": {"kernel": jax.ShapeDtypeStruct((1, 3, 4), jnp.float32)}}}
    optimizer = make_optimizer(config.optimizer, config.training.steps)
    state = jax.eval_shape(optimizer.init, params)
    return _traced(jax.jit(optimizer.update), params, state, params)


def sources(config: Config, place) -> list:
    """Return the name of each corpus, and its first utterance's language."""
    opened = [open_source(source) for source in (*config.data.train, *config.data.text)]
    return [(corpus.name, corpus[0].language) for corpus in opened]


def training(config: Config, place: Path) -> Any:
    """Run a training whose step learns nothing; return the step's inputs, the output, and the files at the end."""
    seen = []

    def fake_init(config, sizes, mesh):
        weights = {"w": jnp.zeros(sizes.labels + sizes.units)}
        return lambda: TrainState(jnp.int32(0), jnp.uint32(config.seed), weights, weights, ())

    class FakePrograms(Programs):
        def add(self, step, state, buckets, shapes=None):
            seen.append(buckets)

        def __getitem__(self, shape):
            return fake_step

    def fake_step(state, batch):
        names = sorted((part, name) for part in batch for name in batch[part])
        seen.append(_digest(*(np.asarray(batch[part][name]).tobytes() for part, name in names)))
        names = ("loss", "streaming_ctc", "full_context_ctc", "gradient_norm", "weights_norm", "infeasible")
        metrics = {name: (np.float32(1), 1.0) for name in names}
        if paired := batch.get("paired"):
            metrics["utterances"] = (np.asarray(paired["valid"]).sum(), 1.0)
            metrics["audio_samples"] = (np.asarray(paired["audio_lengths"]).sum(), 1.0)
            metrics["utterance_loss"] = np.ones(len(paired["valid"]))
        return state._replace(step=state.step + 1), metrics

    class FakeScorer(Scorer):
        wers = iter((0.3, 0.1, 0.2, 0.4, 0.5, 0.6, 0.7))

        def __call__(self, weights, name):
            seen.append(self._buckets)
            wer = next(self.wers)
            rates = {"streaming_wer": 0.5, "full_context_wer": wer, "streaming_cer": 0.25, "full_context_cer": 1 - wer}
            return {f"{name}_{rate}": value for rate, value in rates.items()}

    class Readers(ThreadPoolExecutor):
        def __init__(self, count, **options):
            seen.append(count)
            super().__init__(count, **options)

    class ReadOptions(grain.ReadOptions):
        def __post_init__(self):
            seen.append((self.num_threads, self.prefetch_buffer_size))
            super().__post_init__()

    class Kept(dataset.KeptSpeech):
        def __init__(self, gib):
            seen.append(gib)
            super().__init__(gib)

    run, said = RunDirectory(place / "run"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(setup, "make_init", fake_init)
        patch.setattr(dataset, "KeptSpeech", Kept)
        patch.setattr(asr, "make_train_step", lambda *arguments, **options: None)
        patch.setattr(loop, "Programs", FakePrograms)
        patch.setattr(asr, "Scorer", FakeScorer)
        patch.setattr(asr, "evaluate_run", lambda run, **how: seen.append(("evaluated", sorted(how))))
        patch.setattr(loader, "ThreadPoolExecutor", Readers)
        patch.setattr(loader, "in_time", lambda iterator, seconds, _: seen.append(seconds) or iterator)
        patch.setattr(grain, "ReadOptions", ReadOptions)
        # Elsewhere, the corpus is absent rather than built there.
        patch.setattr(corpora_module, "build_if_absent", lambda name, folder: None)
        before = {name: getattr(jax.config, name) for name in CACHE}
        try:
            asr.train_asr(config, run.root)
            seen.append(jax.config.jax_compilation_cache_dir)
        except UserError as error:
            return str(error)
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
    rows = [line.split(",") for line in run.metrics.read_text().splitlines()]
    speed = rows[0].index("audio_seconds_per_second")
    return (
        seen,
        re.sub(r"[\d.]+ (s after|min|audio-s)|in [\d.]+ s, .* index(es)? (made|found)", "", said.getvalue()).replace(
            str(place), ""
        ),
        [row[:speed] + row[speed + 1 :] for row in rows],
        sorted(int(entry.name) for entry in run.checkpoints.iterdir()),
        [run.vocabulary.read_text(), *(file.read_bytes() for file in sorted(run.tokenizer.iterdir()))],
        sorted(entry.name for entry in run.root.iterdir()),
    )


def beginning(config: Config, place: Path) -> Any:
    """Return the initial weights of a toy model."""
    try:
        return [_digest(np.asarray(x).tobytes()) for x in jax.tree.leaves(toy_run.begin(config, place).state)]
    except UserError as error:
        return str(error)


def evaluation(config: Config, place: Path) -> list[dict]:
    """Return the table of an evaluation of a random model."""
    run, mesh = RunDirectory(place / "run"), make_mesh(config.parallel)
    tokenizer = Characters(" abcdefgh")
    trained = Trained(
        run, config, normalizer("english"), Symbols(tokenizer), Vocabulary(frozenset(), frozenset()), mesh, 1, {}
    )

    def fake_forward(weights, audio, lengths, clock):
        frames = np.asarray(config.model.features.frames(lengths))
        emitted = np.random.default_rng(0).integers(0, tokenizer.size, (len(lengths), frames.max(), 1))
        return ((emitted, emitted),)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load_trained", lambda run, checkpoint: trained)
        patch.setattr(evaluate, "Forward", lambda *arguments: fake_forward)
        rows = evaluate.evaluate_run(run.root, data={"dev": config.data.train[0]})
    return [{name: value for name, value in row.items() if name != "real_time_factor"} for row in rows]


def _traced(function, *arguments) -> str:
    """The operations of a function, with the constants that it closes over; cheaper than what XLA is given."""
    closed = function.trace(*arguments).jaxpr
    constants = (np.asarray(x).tobytes() for x in closed.consts)
    return _digest(re.sub(r"0x[0-9a-f]+", "", str(closed)), *constants)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()

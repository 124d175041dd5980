"""One training step as a function of the state and a batch, jitted by the loop."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from joint_st.config import Config
from joint_st.distributed.mesh import BATCH
from joint_st.distributed.sharding import placed, shardings
from joint_st.models.functional import init_weights, merge, model_structure
from joint_st.training import objective
from joint_st.training.consistency import WATCHED, consistency_losses, consistency_weights
from joint_st.training.optimizer import make_optimizer, moving_average
from joint_st.training.text_rows import Batch, add_repetitions, gather_rows, split_rows, text_frames, text_groups


class TrainState(NamedTuple):
    """Everything a run is, besides its configuration: what a checkpoint holds."""

    step: jax.Array
    """Steps done, int32 scalar; also the index of the next batch."""
    seed: jax.Array
    """The config's, uint32 scalar: not a constant of the step, so that runs of other seeds share its compilation."""
    params: dict
    average: dict
    """Moving average of `params`: what is evaluated."""
    optimizer: optax.OptState


def init_state(config: Config, vocabulary: int, units: int, seed: jax.Array) -> TrainState:
    """The state before the first step."""
    params = init_weights(config.model, vocabulary, units, seed)
    optimizer = make_optimizer(config.optimizer, config.training.steps, config.training.text_first_steps).init(params)
    return TrainState(jnp.zeros((), jnp.int32), seed, params, jax.tree.map(jnp.copy, params), optimizer)


def state_shapes(config: Config, vocabulary: int, units: int, mesh) -> TrainState:
    """Shapes, types and places on `mesh` of the state; nothing is computed."""
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    return placed(jax.eval_shape(lambda seed: init_state(config, vocabulary, units, seed), seed), mesh)


def make_init(config: Config, vocabulary: int, units: int, mesh):
    """`() -> TrainState`, jitted, made where it lies on `mesh`, so that no weight exists unsharded."""
    out = shardings(state_shapes(config, vocabulary, units, mesh), mesh)
    init = jax.jit(lambda seed: init_state(config, vocabulary, units, seed), out_shardings=out)
    return lambda: init(np.uint32(config.seed))


def make_train_step(config: Config, vocabulary: int, units: int, mesh, *, speech: bool = True):
    """Jitted `(state, batch) -> (state, metrics)`; the state given is donated.

    Without `speech`, batches are of text alone.

    Metrics are pairs (sum, count), divided only where they are shown, and `utterance_loss` [B] and `text_loss` [B'],
    which name the utterances and sentences behind a loss that is not finite.
    """
    structure = model_structure(config.model, vocabulary, units)
    places = shardings(state_shapes(config, vocabulary, units, mesh), mesh)
    optimizer = make_optimizer(config.optimizer, config.training.steps, config.training.text_first_steps)
    parts = config.training.accumulation
    groups = text_groups(config, speech)
    matched = speech and bool(config.objective.consistency.weight)

    def part_loss(params, part: Batch, key, totals, scales):
        """This part's share of the batch's loss; shares add up to it, whatever the counts in each part."""
        model = merge(structure, params)
        keys = jax.random.split(key, 4)
        sums, watched = {}, {}
        losses_of = {group: 0.0 for group in groups}
        utterance_loss = jnp.zeros(0)
        if speech:
            audio = model(part["audio"], part["audio_lengths"], config.spec_augment, keys[0])
            utterance_loss = 0.0
            for name, (value, weight) in objective.speech_losses(config, audio, part, mesh).items():
                sums[name] = jnp.sum(value * weight)
                utterance_loss += scales[name] * value
        if groups:
            rows = gather_rows(groups, part, mesh)
            x, mask, _ = model.encode_text(
                rows.units, rows.repetitions, text_frames(config, groups, part), config.text, keys[1], rows.masked
            )
            text = model.shared(x, mask, keys[2])
            for name, values in objective.reconstruction_losses(config, text, rows, mesh).items():
                sums[name] = 0.0
                for group, value in zip(groups, split_rows(groups, part, values, mesh)):
                    sums[name] += jnp.sum(value * objective.reconstruction_weights(group, part))
                    losses_of[group] += scales[name] * group.weight * value
        if matched:
            weight = consistency_weights(config, part)
            found = consistency_losses(config, audio, text, part, keys[3], mesh)
            totalled = {name: jnp.sum(value * weight) for name, value in found.items()}
            sums["consistency"] = totalled.pop("consistency")
            watched = jax.lax.stop_gradient(totalled)
            utterance_loss += scales["consistency"] * jnp.where(weight > 0, found["consistency"], 0)
        per_row = {"utterance_loss": utterance_loss}
        for group, value in losses_of.items():
            if group.prefix:
                per_row["text_loss"] = value
            else:
                per_row["utterance_loss"] += value
        shares = (scales[name] * sums[name] / jnp.maximum(totals[name], 1) for name in sums)
        return sum(shares), (sums, watched, per_row)

    def cut(x):
        """[B, ...] to [parts, B / parts, ...], each device's rows staying on it."""
        x = jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
        return jax.lax.with_sharding_constraint(
            x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, *BATCH))
        )

    def train_step(state: TrainState, batch: Batch):
        key, repetition_key = jax.random.split(jax.random.fold_in(jax.random.key(state.seed), state.step))
        if groups:
            batch = add_repetitions(config, groups, batch, repetition_key)
        totals = objective.loss_totals(config, groups, batch, speech)
        scales = objective.loss_scales(config, state.step)
        gradient_of = jax.value_and_grad(part_loss, has_aux=True)

        if parts == 1:
            (loss, (sums, watched, per_row)), gradient = gradient_of(state.params, batch, key, totals, scales)
        else:

            def add(carry, part_and_key):
                (loss, (*sums, per_row)), gradient = gradient_of(state.params, *part_and_key, totals, scales)
                return jax.tree.map(jnp.add, carry, (loss, sums, gradient)), per_row

            sums = [{name: 0.0 for name in totals}, {name: 0.0 for name in WATCHED if matched}]
            zero = (0.0, sums, jax.tree.map(jnp.zeros_like, state.params))
            (loss, (sums, watched), gradient), per_row = jax.lax.scan(
                add, zero, (jax.tree.map(cut, batch), jax.random.split(key, parts))
            )
            per_row = jax.tree.map(lambda rows: jnp.swapaxes(rows, 0, 1).reshape(-1), per_row)

        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = moving_average(state.average, params, state.step, config.optimizer.ema_decay)
        metrics = {name: (sums[name], totals[name]) for name in sums}
        metrics |= {name: (total, totals["consistency"]) for name, total in watched.items()}
        metrics["loss"] = (loss, 1.0)
        metrics["gradient_norm"] = (optax.tree.norm(gradient), 1.0)
        metrics["weights_norm"] = (optax.tree.norm(params), 1.0)
        if speech:
            metrics["utterances"] = (jnp.sum(batch["valid"]), 1.0)
            spelled = objective.speech_weights(config, batch)["streaming_ctc"]
            metrics["infeasible"] = (jnp.sum(batch["valid"] & (spelled == 0)), 1.0)
            metrics["audio_samples"] = (jnp.sum(batch["audio_lengths"]), 1.0)
        if matched:
            unmatched = batch["valid"] & (consistency_weights(config, batch) == 0)
            metrics["unmatched"] = (jnp.sum(unmatched), 1.0)
        for group in groups:
            if group.prefix:
                valid = batch["text_valid"]
                infeasible = valid & (objective.reconstruction_weights(group, batch) == 0)
                metrics["sentences"] = (jnp.sum(valid), 1.0)
                metrics["infeasible_sentences"] = (jnp.sum(infeasible), 1.0)
        return TrainState(state.step + 1, state.seed, params, average, optimizer_state), metrics | per_row

    return jax.jit(train_step, donate_argnums=0, out_shardings=(places, None))

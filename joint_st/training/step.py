"""One training step as a function of the state and a batch, jitted by the loop."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from joint_st.config import Config
from joint_st.models.functional import init_weights, model_structure
from joint_st.parallel.mesh import BATCH, replicated
from joint_st.training import objective
from joint_st.training.objective import Batch
from joint_st.training.optimizer import make_optimizer, moving_average


class TrainState(NamedTuple):
    """Everything a run is, besides its configuration: what a checkpoint holds."""

    step: jax.Array
    """Steps done, int32 scalar; also the index of the next batch."""
    params: dict
    average: dict
    """Moving average of `params`: what is evaluated."""
    optimizer: optax.OptState


def init_state(config: Config, vocabulary: int) -> TrainState:
    """The state before the first step."""
    params = init_weights(config.model, vocabulary, config.seed)
    optimizer = make_optimizer(config.optimizer, config.training.steps).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer)


def make_init(config: Config, vocabulary: int, mesh):
    """Jitted `() -> TrainState`, made where it lies on `mesh`, so that no weight exists unsharded."""
    return jax.jit(lambda: init_state(config, vocabulary), out_shardings=replicated(mesh))


def make_train_step(config: Config, vocabulary: int, mesh):
    """Jitted `(state, batch) -> (state, metrics)`; the state given is donated.

    Metrics are pairs (sum, count), divided only where they are shown, and `utterance_loss` [B], which names the
    utterances behind a loss that is not finite.
    """
    structure = model_structure(config.model, vocabulary)
    optimizer = make_optimizer(config.optimizer, config.training.steps)
    seed = jax.random.key(config.seed)
    parts = config.training.accumulation
    weights = config.objective

    def part_loss(params, part: Batch, key, totals):
        """This part's share of the batch's loss; shares add up to it, whatever the counts in each part."""
        model = nnx.merge(structure, params)
        outputs = model(part["audio"], part["audio_lengths"], config.spec_augment, key)
        losses = objective.losses(outputs, part, mesh)
        sums = {name: jnp.sum(value * weight) for name, (value, weight) in losses.items()}
        shares = {name: sums[name] / jnp.maximum(totals[name], 1) for name in sums}
        per_utterance = objective.weighted({name: value for name, (value, _) in losses.items()}, weights)
        return objective.weighted(shares, weights), (sums, per_utterance)

    def cut(x):
        """[B, ...] to [parts, B / parts, ...], each device's rows staying on it."""
        x = jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
        return jax.lax.with_sharding_constraint(
            x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, *BATCH))
        )

    def train_step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(seed, state.step)
        frames = config.model.features.frames(batch["audio_lengths"])
        count = objective.ctc_weights(batch, frames)
        totals = {"streaming_ctc": count.sum(), "full_context_ctc": count.sum()}
        gradient_of = jax.value_and_grad(part_loss, has_aux=True)

        if parts == 1:
            (loss, (sums, per_utterance)), gradient = gradient_of(state.params, batch, key, totals)
        else:

            def add(carry, part_and_key):
                (loss, (sums, per_utterance)), gradient = gradient_of(state.params, *part_and_key, totals)
                return jax.tree.map(jnp.add, carry, (loss, sums, gradient)), per_utterance

            zero = (0.0, {name: 0.0 for name in totals}, jax.tree.map(jnp.zeros_like, state.params))
            cut_batch = jax.tree.map(cut, batch)
            (loss, sums, gradient), per_utterance = jax.lax.scan(
                add, zero, (cut_batch, jax.random.split(key, parts))
            )
            per_utterance = jnp.swapaxes(per_utterance, 0, 1).reshape(-1)

        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = moving_average(state.average, params, state.step, config.optimizer.ema_decay)
        metrics = {name: (sums[name], totals[name]) for name in sums}
        metrics["loss"] = (loss, 1.0)
        metrics["gradient_norm"] = (optax.tree.norm(gradient), 1.0)
        metrics["weights_norm"] = (optax.tree.norm(params), 1.0)
        metrics["utterances"] = (jnp.sum(batch["valid"]), 1.0)
        metrics["infeasible"] = (jnp.sum(batch["valid"] & (count == 0)), 1.0)
        metrics["audio_samples"] = (jnp.sum(batch["audio_lengths"]), 1.0)
        metrics["utterance_loss"] = per_utterance
        return TrainState(state.step + 1, params, average, optimizer_state), metrics

    return jax.jit(train_step, donate_argnums=0)

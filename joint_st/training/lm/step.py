"""One training step of a language model as a function of the state and a batch, jitted by the loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from joint_st.config import LmConfig
from joint_st.distributed.sharding import placed, shardings
from joint_st.models.language_model import init_lm, merge_lm
from joint_st.training.optimizer import make_optimizer, moving_average
from joint_st.training.step import TrainState
from joint_st.training.text_rows import Batch


def init_state(config: LmConfig, vocabulary: int, seed: jax.Array) -> TrainState:
    """The state before the first step."""
    params = init_lm(config.model, vocabulary, seed)
    optimizer = make_optimizer(config.optimizer, config.training.steps).init(params)
    return TrainState(jnp.zeros((), jnp.int32), seed, params, jax.tree.map(jnp.copy, params), optimizer)


def state_shapes(config: LmConfig, vocabulary: int, mesh) -> TrainState:
    """Shapes, types and places on `mesh` of the state; nothing is computed."""
    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    return placed(jax.eval_shape(lambda seed: init_state(config, vocabulary, seed), seed), mesh)


def make_init(config: LmConfig, vocabulary: int, mesh):
    """`() -> TrainState`, jitted, made where it lies on `mesh`."""
    out = shardings(state_shapes(config, vocabulary, mesh), mesh)
    init = jax.jit(lambda seed: init_state(config, vocabulary, seed), out_shardings=out)
    return lambda: init(np.uint32(config.seed))


def make_train_step(config: LmConfig, vocabulary: int, mesh):
    """Jitted `(state, batch) -> (state, metrics)`; the state given is donated.

    The loss is the mean over labels, ends of texts among them, of minus the log probability. Metrics are pairs (sum,
    count), divided only where they are shown, and `text_loss` [B], which names the texts behind one that is not finite.
    """
    places = shardings(state_shapes(config, vocabulary, mesh), mesh)
    optimizer = make_optimizer(config.optimizer, config.training.steps)

    def train_step(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        labels, lengths, valid = batch["text_labels"], batch["text_label_lengths"], batch["text_valid"]
        count = jnp.sum(jnp.where(valid, lengths + 1, 0))

        def loss_of(params):
            of_texts = jnp.where(valid, -merge_lm(config.model, vocabulary, params).log_prob(labels, lengths, key), 0)
            return jnp.sum(of_texts) / jnp.maximum(count, 1), of_texts

        (loss, of_texts), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = moving_average(state.average, params, state.step, config.optimizer.ema_decay)
        metrics = {
            "loss": (loss * count, count),
            "gradient_norm": (optax.tree.norm(gradient), 1.0),
            "weights_norm": (optax.tree.norm(params), 1.0),
            "texts": (jnp.sum(valid), 1.0),
            "labels": (count, 1.0),
        }
        return TrainState(state.step + 1, state.seed, params, average, optimizer_state), metrics | {
            "text_loss": of_texts
        }

    return jax.jit(train_step, donate_argnums=0, out_shardings=(places, None))

"""AdamW with warm-up, cosine decay and clipping, and the moving average of the weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from joint_st.config import OptimizerConfig


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up to the peak, then a cosine down to `final_share` of it at `steps`."""
    warmup = min(config.warmup_steps, steps)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else config.peak_learning_rate,
        peak_value=config.peak_learning_rate,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
        end_value=config.peak_learning_rate * config.final_share,
    )


def is_matrix(path, leaf) -> bool:
    """Whether weight decay applies: kernels and filters, not biases and norms, whose stacks have two axes as well."""
    del leaf
    return str(getattr(path[-1], "key", path[-1])) in ("kernel", "filters")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (arXiv 1711.05101) with decay on matrices only."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(is_matrix, params),
        ),
    )


def moving_average(average, params, step: jax.Array, decay: float):
    """The average after `step` (0-based): its decay grows as (1 + step) / (10 + step), up to `decay`."""
    decay = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)

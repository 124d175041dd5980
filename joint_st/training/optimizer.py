"""AdamW or Muon with warm-up, cosine decay and clipping, and the moving average of the weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from joint_st.config import OptimizerConfig


def schedule(config: OptimizerConfig, steps: int, held: int = 0) -> optax.Schedule:
    """Learning rate by step: linear warm-up to the peak, then a cosine down to `final_share` of it at `steps`.

    It stays at the peak through the first `held` steps.
    """
    peak, warmup = config.peak_learning_rate, min(config.warmup_steps, steps)
    start = max(warmup, held)
    rise = optax.linear_schedule(0.0, peak, warmup) if warmup else optax.constant_schedule(peak)
    fall = optax.cosine_decay_schedule(peak, max(steps - start, 1), config.final_share)
    return optax.join_schedules([rise, optax.constant_schedule(peak), fall], [warmup, start])


def is_matrix(path, leaf) -> bool:
    """Whether weight decay applies: kernels and filters, not biases and norms, whose stacks have two axes as well."""
    del leaf
    return str(getattr(path[-1], "key", path[-1])) in ("kernel", "filters")


def muon_dimensions(path, leaf, output_layers: frozenset[str] = frozenset()):
    """Which axes of a weight Muon takes as rows and columns; `None` for what AdamW updates.

    Kernels of the layers are matrices behind the axis of the stack; heads of attention count as one axis. Output
    layers, named by their dotted paths, are left to AdamW, as is usual.
    """
    names = [str(getattr(part, "key", part)) for part in path]
    if names[-1] != "kernel" or ".".join(names) in output_layers:
        return None
    stacked = "layers" in names
    first, last = int(stacked), leaf.ndim - 1
    inputs = last - 1 if names[-2] == "out" else first
    rows = tuple(range(first, inputs + 1))
    return optax.contrib.MuonDimensionNumbers(rows, tuple(range(inputs + 1, last + 1)))


def make_optimizer(
    config: OptimizerConfig, steps: int, held: int = 0, output_layers: frozenset[str] = frozenset()
) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW (arXiv 1711.05101) or Muon (scaled to AdamW's step, arXiv 2502.16982).

    With Muon, what is no matrix of a layer is updated by AdamW with Nesterov's momentum. Weight decay is on
    matrices only. `steps` and `held` are the schedule's; `output_layers` are left to AdamW, by their dotted paths.
    """
    rate = schedule(config, steps, held)
    common = {"weight_decay": config.weight_decay}
    if config.kind == "adamw":
        update = optax.adamw(rate, b1=config.beta1, b2=config.beta2, mask=decay_mask, **common)
    else:
        update = optax.contrib.muon(
            rate,
            adam_b1=config.beta1,
            adam_b2=config.beta2,
            weight_decay_mask=decay_mask,
            muon_weight_dimension_numbers=lambda params: jax.tree_util.tree_map_with_path(
                lambda path, leaf: muon_dimensions(path, leaf, output_layers), params
            ),
            consistent_rms=0.2,
            **common,
        )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def decay_mask(params):
    """`is_matrix` of every weight."""
    return jax.tree_util.tree_map_with_path(is_matrix, params)


def moving_average(average, params, step: jax.Array, decay: float):
    """The average after `step` (0-based): its decay grows as (1 + step) / (10 + step), up to `decay`."""
    decay = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)

"""AdamW or Muon with warm-up, cosine decay and clipping, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from joint_st.config import OptimizerConfig
from joint_st.ops.orthogonal import orthogonalised


def schedule(config: OptimizerConfig, steps: int, held: int = 0) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up to the peak, then a cosine down to `final_share` of it at
    `steps`.

    It stays at the peak through the first `held` steps.
    """
    peak, warmup = config.peak_learning_rate, min(config.warmup_steps, steps)
    start = max(warmup, held)
    rise = optax.linear_schedule(0.0, peak, warmup) if warmup else optax.constant_schedule(peak)
    fall = optax.cosine_decay_schedule(peak, max(steps - start, 1), config.final_share)
    return optax.join_schedules([rise, optax.constant_schedule(peak), fall], [warmup, start])


def shrinkage(config: OptimizerConfig, steps: int, held: int = 0) -> float:
    """Return by what share weight decay alone would shrink the kernels over a run: one less the product of what each step
    leaves of them. `steps` and `held` are arguments of the schedule."""
    rates = np.asarray(schedule(config, steps, held)(np.arange(steps)), np.float64)
    return float(-np.expm1(np.log1p(-np.minimum(config.weight_decay * rates, 1 - 1e-9)).sum()))


def is_matrix(path, leaf) -> bool:
    """Return whether weight decay applies: to kernels and filters, not to biases and norms, whose stacks have two axes
    as well."""
    del leaf
    return str(getattr(path[-1], "key", path[-1])) in ("kernel", "filters")


def muon_dimensions(path, leaf, output_layers: frozenset[str] = frozenset()):
    """Return the axes of a weight that Muon takes as rows and columns; `None` for weights that AdamW updates.

    Kernels of the layers are matrices after the axis of the stack; attention heads count as one axis. Output
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
    config: OptimizerConfig,
    steps: int,
    held: int = 0,
    output_layers: frozenset[str] = frozenset(),
    changes: Sequence[int] = (),
    rounded: bool = False,
) -> optax.GradientTransformation:
    """Make the optimizer: clipping by global norm, then AdamW (arXiv 1711.05101) or Muon (scaled to AdamW's step, arXiv
    2502.16982).

    With Muon, AdamW with Nesterov's momentum updates everything that is not a matrix of a layer. Weight decay is on
    kernels and filters only, whichever of the two updates them. `steps` and `held` are arguments of the schedule;
    `output_layers`, by their dotted paths, are left to AdamW. `changes` are the steps from which the gradient is of other
    losses than before, and another size of it no spike. rounded: whether Muon rounds the operands of its products, as the
    model does (`model.products`).
    """
    rate = schedule(config, steps, held)
    adam = {"b1": config.beta1, "weight_decay": config.weight_decay, "mask": decay_mask}
    if config.kind == "adamw":
        update = optax.adamw(rate, b2=config.beta2, **adam)
    else:

        def dimensions(weights):
            return jax.tree_util.tree_map_with_path(
                lambda path, leaf: muon_dimensions(path, leaf, output_layers), weights
            )

        def kinds(weights):
            return jax.tree.map(lambda _, axes: "adam" if axes is None else "muon", weights, dimensions(weights))

        muon = optax.chain(
            # The momentum over its norm: its orthogonalisation is ours, which is faster on a CPU.
            optax.contrib.scale_by_muon(ns_steps=0, weight_dimension_numbers=dimensions),
            orthogonalise(dimensions, rounded),
            optax.add_decayed_weights(config.weight_decay, decay_mask),
            optax.scale_by_learning_rate(rate),
        )
        update = optax.partition({"muon": muon, "adam": optax.nadamw(rate, b2=config.beta2, **adam)}, kinds)
    update = optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return skip_spikes(update, config.skip_above, config.skip_window, changes) if config.skip_above else update


RMS = 0.2
"""Root mean square of an entry of Muon's updates before the learning rate, near that of AdamW's (arXiv 2502.16982, section
2.2)."""


def orthogonalise(dimensions: Callable, rounded: bool) -> optax.GradientTransformation:
    """Return the transformation of updates to orthogonal matrices whose entries have `RMS`, whatever their shapes.

    dimensions: function of the updates that returns the `MuonDimensionNumbers` of each.
    """

    def of_one(x, axes: optax.contrib.MuonDimensionNumbers):
        inputs, outputs = axes.reduction_axis, axes.output_axis
        kept = [axis for axis in range(x.ndim) if axis not in (*inputs, *outputs)]
        order = [*kept, *inputs, *outputs]
        rows, columns = (math.prod(x.shape[axis] for axis in part) for part in (inputs, outputs))
        moved = x.transpose(order)
        found = orthogonalised(moved.reshape(-1, rows, columns), rounded).reshape(moved.shape)
        return RMS * math.sqrt(max(rows, columns)) * found.transpose(np.argsort(order))

    return optax.stateless(lambda updates, params: jax.tree.map(of_one, updates, dimensions(updates)))


def steps_of(state: optax.OptState) -> jax.Array:
    """Return the steps, taken or skipped, that the learning rate in the state of an optimizer has seen."""
    leaves = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, optax.ScaleByScheduleState))
    return next(leaf.count for leaf in leaves if isinstance(leaf, optax.ScaleByScheduleState))


class SpikeState(NamedTuple):
    """The optimizer's state for skipping spikes, which are steps with a far larger gradient than usual.

    It is saved with the run, so that resuming is exact.
    """

    optimizer: optax.OptState
    norms: jax.Array
    """Norms of the gradients of the steps last taken, float32 [window], a ring."""
    taken: jax.Array
    """Steps taken since the losses last changed, int32 scalar: the next norm goes to `taken % window`."""
    skipped_in_row: jax.Array
    """Steps skipped since the last one taken, int32 scalar."""
    median: jax.Array
    """The median that the last norm was compared with, float32 scalar; infinite while there are too few norms."""


def skip_spikes(
    update: optax.GradientTransformation, above: float, window: int, changes_at: Sequence[int] = ()
) -> optax.GradientTransformation:
    """Wrap `update`, so that nothing changes in a step whose gradient's norm is above `above` times the running median.

    The median is taken over the norms of the last `window` steps that were not skipped, and that came after the last of
    the steps `changes_at` (0-based) which is past. Nothing is skipped before a quarter of the window is filled. A norm that is not finite does not count as a spike: it ends the run. Learning
    rates follow the steps of the run, including skipped ones.
    """

    def init(params):
        return SpikeState(
            update.init(params),
            jnp.zeros(window, jnp.float32),
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.int32),
            jnp.float32(jnp.inf),
        )

    def skip_or_update(gradient, state: SpikeState, params=None):
        norm = optax.tree.norm(gradient).astype(jnp.float32)
        taken = state.taken
        if changes_at:
            taken = jnp.where(jnp.isin(steps_of(state), jnp.array(changes_at)), 0, taken)
        known = jnp.where(jnp.arange(window) < taken, state.norms, jnp.nan)
        median = jnp.where(taken >= max(window // 4, 1), jnp.nanmedian(known), jnp.inf)
        spike = jnp.isfinite(norm) & (norm > above * median)

        def keep(new, old):
            if isinstance(new, optax.ScaleByScheduleState):
                return new
            return jnp.where(spike, old, new)

        changes, after = update.update(gradient, state.optimizer, params)
        after = jax.tree.map(
            keep, after, state.optimizer, is_leaf=lambda leaf: isinstance(leaf, optax.ScaleByScheduleState)
        )
        changes = jax.tree.map(lambda change: jnp.where(spike, jnp.zeros_like(change), change), changes)
        return changes, SpikeState(
            after,
            jnp.where(spike, state.norms, state.norms.at[taken % window].set(norm)),
            taken + ~spike,
            jnp.where(spike, state.skipped_in_row + 1, 0),
            median,
        )

    return optax.GradientTransformation(init, skip_or_update)


def decay_mask(params):
    """Return `is_matrix` of every weight."""
    return jax.tree_util.tree_map_with_path(is_matrix, params)


def moving_average(average, params, step: jax.Array, decay: float):
    """Return the average after `step` of it (0-based); its decay grows as (1 + step) / (10 + step), up to `decay`."""
    decay = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32)
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)

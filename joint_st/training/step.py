"""One training step of the joint model as a function of the state and a batch, jitted by the training script."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from joint_st.config import Config
from joint_st.data.batch import Arrays
from joint_st.data.confusions import Confusions, confusion_rates
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.mesh import BATCH
from joint_st.distributed.sharding import Axes, placed, shardings
from joint_st.heads.model import JointModel, head_kinds, init_weights, model_structure, weight_axes
from joint_st.losses.base import (
    Column,
    EncodedTexts,
    Loss,
    Passes,
    fixed_passes,
    make_losses,
    needs_text,
    of_own_columns,
    passes_of,
    text_share,
)
from joint_st.losses.passes import AUDIO_PASSES, TEXT_PASSES, Pass
from joint_st.losses.text_rows import add_repetitions, frames_bound, gather_rows
from joint_st.models.functional import merge, without_gradient
from joint_st.ops.text_frames import ConfusionRates
from joint_st.passes import PASSES
from joint_st.training.optimizer import SpikeState, make_optimizer, moving_average

COLUMNS = (
    Column("loss", "Loss, all objectives", description="What is minimised: the weighted sum of all losses."),
    Column("gradient_norm", "Norm of the gradient", description="L2 norm of the gradient, before it is clipped."),
    Column("utterances", kind="count", description="Utterances with audio that the steps of the row took."),
    Column("sentences", kind="count", description="Sentences of text without audio that the steps of the row took."),
)
"""Columns that a step reports in every run; the losses have further ones."""

SKIPPED = Column(
    "skipped_steps",
    "Steps skipped",
    kind="count",
    description="Steps that changed no weights, because their gradient's norm was more than `optimizer.skip_above` "
    "times the median.",
)
"""The column of skipped steps, whose gradient was far above the median (`optimizer.skip_above`)."""

UNLISTED = frozenset(
    {"weights_norm", "audio_samples", "labels", "utterance_loss", "text_loss", "skipped_in_row", "median_norm"}
)
"""Metrics of a step that are no columns of `metrics.csv`; the training scripts use them."""


class TrainState(NamedTuple):
    """The complete state of a run besides its configuration, which a checkpoint holds."""

    step: jax.Array
    """Steps done, int32 scalar; also the number of the next batch."""
    seed: jax.Array
    """Seed of the run, uint32 scalar; it is not a constant of the step, so that runs with other seeds share its
    compilation."""
    params: dict
    average: dict
    """Moving average of `params`, which is evaluated."""
    optimizer: optax.OptState


def fresh_state(params: dict, optimizer: optax.GradientTransformation, seed: jax.Array) -> TrainState:
    """Return the state before the first step, with some weights."""
    return TrainState(jnp.zeros((), jnp.int32), seed, params, jax.tree.map(jnp.copy, params), optimizer.init(params))


def joint_optimizer(config: Config) -> optax.GradientTransformation:
    """Make the optimizer of a joint model."""
    training = config.training
    first, later = training.text_first_steps, training.text_from_step
    changes = tuple(step for step in (first, later) if step)
    rounded = config.model.products == "rounded"
    return make_optimizer(config.optimizer, training.steps, first, output_layers(config), changes, rounded)


def output_layers(config: Config) -> frozenset[str]:
    """Return the dotted paths of the output layers of the heads and of the projection to text units."""
    heads = {f"{name}_head.{path}" for name, kind in head_kinds(config.heads).items() for path in kind.output_layers()}
    return frozenset(heads | {"unit_head.linear.kernel"})


def init_state(config: Config, sizes: SymbolSizes, seed: jax.Array) -> TrainState:
    """Make the state before the first step, with weights drawn from the seed."""
    return fresh_state(init_weights(config, sizes, seed), joint_optimizer(config), seed)


def state_shapes(config: Config, sizes: SymbolSizes, mesh) -> TrainState:
    """Return shapes, types and shardings on `mesh` of the state; nothing is computed."""
    return placed_shapes(lambda seed: init_state(config, sizes, seed), mesh, weight_axes(config, sizes))


def make_init(config: Config, sizes: SymbolSizes, mesh):
    """Return a jitted function `() -> TrainState` whose result is sharded over `mesh`, so that no weight exists
    unsharded."""
    return jitted_init(lambda seed: init_state(config, sizes, seed), config.seed, mesh, weight_axes(config, sizes))


def placed_shapes(init, mesh, own: Axes) -> TrainState:
    """Return shapes, types and shardings on `mesh` of the result of `init(seed)`. own: axes that its modules
    declare."""
    return placed(jax.eval_shape(init, jax.ShapeDtypeStruct((), jnp.uint32)), mesh, own)


def jitted_init(init, seed: int, mesh, own: Axes):
    """Return `() -> init(seed)`, jitted, with its result sharded over `mesh`. own: axes that its modules declare."""
    jitted = jax.jit(init, out_shardings=shardings(placed_shapes(init, mesh, own)))
    return lambda: jitted(np.uint32(seed))


def updated(state: TrainState, gradient, optimizer: optax.GradientTransformation, decay: float, text_first: int = 0):
    """Return the state after a step along a gradient, and the metrics of both.

    decay: that of the moving average. text_first: steps on text alone, after which the average begins again: until then
    layers of audio alone have learnt nothing, and would stay in it for long.
    """
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    since = jnp.where(state.step < text_first, 0, text_first)
    average = moving_average(state.average, params, state.step - since, decay)
    metrics = {
        "gradient_norm": (optax.tree.norm(gradient), 1.0),
        "weights_norm": (optax.tree.norm(params), 1.0),
    }
    if isinstance(optimizer_state, SpikeState):
        metrics["skipped_steps"] = (jnp.minimum(optimizer_state.skipped_in_row, 1), 1.0)
        metrics["skipped_in_row"] = (optimizer_state.skipped_in_row, 1.0)
        metrics["median_norm"] = (optimizer_state.median, 1.0)
    return TrainState(state.step + 1, state.seed, params, average, optimizer_state), metrics


BLOCK_KEY = 0x626C6F63
"""Number folded into a step's key to draw its look-ahead. It is larger than the number of keys that a key is split into,
since `split(key)[n]` is `fold_in(key, n)`."""
AGAIN_KEY = 0x61676169
"""The same for what passes a second time: the utterances under another masking, the texts through which no gradient goes."""


def draw_block(config: Config, key: jax.Array) -> jax.Array | None:
    """Return the length in frames of a step's look-ahead blocks, drawn from those of the config; None if it has one only."""
    blocks = config.model.blocks
    if len(blocks) == 1:
        return None
    return jax.random.choice(jax.random.fold_in(key, BLOCK_KEY), jnp.array(blocks, jnp.int32))


def run_passes(
    config: Config,
    model: JointModel,
    wanted: frozenset[Pass],
    batch: Arrays,
    keys: jax.Array,
    mesh,
    block: jax.Array | None = None,
    confusions: ConfusionRates | None = None,
    fixed: frozenset[Pass] = frozenset(),
) -> Passes:
    """Run each of the wanted passes of a batch once, with all texts together but for those of passes that are `fixed`,
    through which no gradient goes, and whose shared layers draw no dropout. keys: four random keys. block: see
    `draw_block`. confusions: how units of text are confused."""
    audio = {}
    for k, one in enumerate(AUDIO_PASSES):
        if one in wanted:
            key = jax.random.fold_in(keys[0], AGAIN_KEY) if k else keys[0]
            paired = batch["paired"]
            columns = {name: paired[name] for name in model.columns}
            audio[one] = model(paired["audio"], paired["audio_lengths"], config.spec_augment, key, columns, block)
    text = {}
    for k, together in enumerate((wanted - fixed, wanted & fixed)):
        of_text = [one for one in TEXT_PASSES if one in together]
        if not of_text:
            continue
        own = without_gradient(model) if k else model
        masked = [one is not Pass.PAIRED_CLEAN for one in of_text]
        text_key, shared_key = keys[1:3]
        if k:
            # What speech is pulled to is not blurred by dropout. Masks are drawn where the texts are to have them.
            text_key = jax.random.fold_in(text_key, AGAIN_KEY) if any(masked) else None
            shared_key = None
        rows = gather_rows(of_text, masked, batch, mesh, own.columns)
        bound = frames_bound(config, [one.part for one in of_text], batch)
        how = config.text, text_key, rows.masked, block, confusions
        x, mask, _ = own.encode_text(rows.units, rows.repetitions, bound, *how)
        encoded = own.shared_of_text(x, mask, shared_key, rows.columns, block)
        text |= dict.fromkeys(of_text, EncodedTexts(encoded, rows))
    return Passes(audio, text, {name: model.head(name) for name in PASSES})


def weighted_mean(total: jax.Array, weight: jax.Array) -> jax.Array:
    """Return a sum over its weight, which may be below 1; 0 without any weight."""
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0)


def scales_at(config: Config, losses: tuple[Loss, ...], step: jax.Array) -> dict[str, jax.Array | float]:
    """Return the factor of each term of some losses in the total loss at `step` (0-based)."""
    later, scales = bool(config.training.text_from_step or config.training.text_ramp_steps), {}
    for loss in losses:
        own = of_own_columns(loss, loss.scales(step))
        if later and needs_text(loss):
            own = {term: scale * text_share(config, step) for term, scale in own.items()}
        scales |= own
    return scales


def make_train_step(
    config: Config,
    sizes: SymbolSizes,
    mesh,
    *,
    speech: bool = True,
    text: bool = True,
    losses: tuple[Loss, ...] | None = None,
    confusions: Confusions | None = None,
):
    """Return a jitted function `(state, batch) -> (state, metrics)`, to which the state is donated.

    Without `speech`, batches are of text alone; without `text`, no text passes, and the losses that need it take no part.
    The losses are the config's unless others are given. confusions: the counts that `text.confusions` names.

    Metrics are pairs (sum, count), divided only where they are shown, and `utterance_loss` [B] and `text_loss` [B'],
    which show the utterances and sentences that cause a loss that is not finite.
    """
    losses = make_losses(config) if losses is None else losses
    rates = confusion_rates(confusions, config.text.confusion_scale) if confusions else None
    if not text:
        losses = tuple(loss for loss in losses if not needs_text(loss))
    structure = model_structure(config, sizes)
    places = shardings(state_shapes(config, sizes, mesh))
    optimizer = joint_optimizer(config)
    parts = config.training.accumulation
    wanted = passes_of(losses, speech)
    fixed = fixed_passes(losses, wanted)
    of_text = sorted({one.part for one in wanted if one in TEXT_PASSES})
    weighted_by = {column.name: column.weighted_by for loss in losses for column in loss.columns}

    def part_loss(params, part: Arrays, key, totals, scales, block):
        """Return this part's share of the batch's loss; the shares add up to it for any counts in the parts."""
        model = merge(structure, params)
        keys = jax.random.split(key, 4)
        passes = run_passes(config, model, wanted, part, keys, mesh, block, rates, fixed)
        sums, monitored, per_row = {}, {}, {}
        for loss in losses:
            weights = loss.weights(part, wanted)
            found = loss.values(passes, part, wanted, keys[3], mesh)
            for term, rows in of_own_columns(loss, found.values).items():
                sums[term] = 0.0
                for one, value in rows.items():
                    weight = weights[term][one]
                    sums[term] += jnp.sum(value * weight)
                    name = "text_loss" if one.part == "text" else "utterance_loss"
                    per_row[name] = per_row.get(name, 0.0) + scales[term] * jnp.where(weight > 0, value, 0)
            for column, rows in of_own_columns(loss, found.monitored).items():
                weight = weights[weighted_by[column]]
                monitored[column] = sum(
                    jnp.sum(jax.lax.stop_gradient(value) * weight[one]) for one, value in rows.items()
                )
        shares = (scales[term] * weighted_mean(sums[term], totals[term]) for term in sums)
        return sum(shares), (sums, monitored, per_row)

    def cut(x):
        """Reshape an array [B, ...] to [parts, B / parts, ...], with each device keeping its rows."""
        x = jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
        return jax.lax.with_sharding_constraint(
            x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, *BATCH))
        )

    def train_step(state: TrainState, batch: Arrays):
        key, repetition_key = jax.random.split(jax.random.fold_in(jax.random.key(state.seed), state.step))
        block = draw_block(config, key)
        if of_text:
            batch = add_repetitions(config, of_text, batch, repetition_key)
        totals = {
            term: sum(weight.sum() for weight in rows.values())
            for loss in losses
            for term, rows in of_own_columns(loss, loss.weights(batch, wanted)).items()
        }
        scales = scales_at(config, losses, state.step)
        gradient_of = jax.value_and_grad(part_loss, has_aux=True)

        if parts == 1:
            (loss, (sums, monitored, per_row)), gradient = gradient_of(state.params, batch, key, totals, scales, block)
        else:

            def add(carry, part_and_key):
                (loss, (*sums, per_row)), gradient = gradient_of(state.params, *part_and_key, totals, scales, block)
                return jax.tree.map(jnp.add, carry, (loss, sums, gradient)), per_row

            split = jax.tree.map(cut, batch), jax.random.split(key, parts)
            first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), split)
            (loss, (*sums, _)), gradient = jax.eval_shape(gradient_of, state.params, *first, totals, scales, block)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (loss, sums, gradient))
            (loss, (sums, monitored), gradient), per_row = jax.lax.scan(add, zeros, split)
            per_row = jax.tree.map(lambda rows: jnp.swapaxes(rows, 0, 1).reshape(-1), per_row)

        after, metrics = updated(
            state, gradient, optimizer, config.optimizer.ema_decay, config.training.text_first_steps
        )
        metrics["loss"] = (loss, 1.0)
        metrics |= {term: (total, totals[term]) for term, total in sums.items()}
        metrics |= {column: (total, totals[weighted_by[column]]) for column, total in monitored.items()}
        for one in losses:
            counts = of_own_columns(one, one.counts(batch, wanted))
            metrics |= {column: (count, 1.0) for column, count in counts.items()}
        if "paired" in batch:
            metrics["utterances"] = (jnp.sum(batch["paired"]["valid"]), 1.0)
            # In float32, because the samples of a large pod's batch are more than an int32 holds.
            metrics["audio_samples"] = (jnp.sum(batch["paired"]["audio_lengths"], dtype=jnp.float32), 1.0)
        if "text" in batch:
            metrics["sentences"] = (jnp.sum(batch["text"]["valid"]), 1.0)
        return after, metrics | per_row

    return jax.jit(train_step, donate_argnums=0, out_shardings=(places, None))

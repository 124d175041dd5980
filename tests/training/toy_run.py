"""Runs of a model of six parts that is made in no time; some of its weights have an axis over labels, units or
languages."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.config import Config, TfdsSource
from joint_st.data.symbols import Symbols, SymbolSizes, save_languages
from joint_st.data.text_units.units import Spelling
from joint_st.data.tokenizers import Characters
from joint_st.distributed.mesh import make_mesh
from joint_st.runs.checkpoints import Checkpoints, named_leaves
from joint_st.runs.directory import open_run
from joint_st.training.step import TrainState, placed_shapes
from joint_st.training.weights import Start, starting_state

CONFIG = Config(data={"train": [TfdsSource(name="grammar", split="train")]})
SYMBOLS = Symbols(Characters("abc"), Spelling(Characters("uvwxyz")), ("", "de", "en"))
WIDTH = 4


def init_weights(sizes: SymbolSizes, key, layers: int = 2, text_layer: bool = False) -> dict:
    """Weights drawn from a key; all of them differ."""
    shapes = {
        "audio": {"layers": {"kernel": (layers, WIDTH, WIDTH), "bias": (layers, WIDTH)}},
        "shared": {"layers": {"kernel": (2, WIDTH, WIDTH), "bias": (2, WIDTH)}},
        "shared_head": {"linear": {"kernel": (WIDTH, sizes.labels), "bias": (sizes.labels,)}},
        "language": {"embedding": (sizes.languages, WIDTH)},
    }
    if sizes.units:
        shapes["text"] = {"embed": {"embedding": (sizes.units, WIDTH)}}
        if text_layer:
            shapes["text"]["layer"] = {"kernel": (WIDTH, WIDTH)}
        shapes["unit_head"] = {"linear": {"kernel": (WIDTH, sizes.units), "bias": (sizes.units,)}}
    leaves, structure = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, shape) for k, shape in zip(keys, leaves)])


def init_state(sizes: SymbolSizes, seed, **kind) -> TrainState:
    params = init_weights(sizes, jax.random.key(seed), **kind)
    moments = jax.tree.map(jnp.zeros_like, params)
    return TrainState(jnp.int32(0), jnp.uint32(seed), params, jax.tree.map(jnp.copy, params), moments)


def begin(config: Config, folder: Path, symbols: Symbols = SYMBOLS, **kind) -> Start:
    """Return the starting state of a run in `folder`."""
    run, mesh = open_run(folder, config), make_mesh(config.parallel)

    def shapes(sizes):
        return placed_shapes(lambda seed: init_state(sizes, seed, **kind), mesh, {})

    def fresh():
        return init_state(symbols.sizes, config.seed, **kind)

    with jax.set_mesh(mesh), Checkpoints(run.checkpoints) as checkpoints:
        return starting_state(config, checkpoints, symbols, shapes, fresh)


def save_run(
    folder: Path, seeds: dict[int, int], wers: dict[int, float], symbols: Symbols = SYMBOLS, config: Config = CONFIG
) -> Path:
    """Return a run with a checkpoint at each step of `seeds`: weights of that seed, their average of the one after
    it."""
    run = open_run(folder, config)
    symbols.labels.save(run.tokenizer)
    symbols.units.save(run.units)
    save_languages(symbols.languages, run.root)
    with Checkpoints(run.checkpoints, keep_latest=9) as checkpoints:
        for step, seed in seeds.items():
            state, average = init_state(symbols.sizes, seed), init_state(symbols.sizes, seed + 1).params
            state = state._replace(step=jnp.int32(step), average=average, optimizer=average)
            checkpoints.save(step, state, {"step": step, "wer": wers[step]}, wers[step])
    return run.root


def arrays(tree) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in named_leaves(tree).items()}


def assert_from(found: dict, expected: dict, part: str = "", names=None) -> None:
    """Check that weights are equal bit for bit; names of `expected` begin with `part`."""
    names = found if names is None else names
    assert names
    for name in names:
        assert found[name].tobytes() == expected[part + name].tobytes(), name

"""Muon's updates are orthogonal matrices of the layers, whatever axes the weights are stored with."""

import jax
import numpy as np
import optax
import pytest

from joint_st.config import OptimizerConfig, override
from joint_st.data.symbols import SymbolSizes
from joint_st.heads.model import weight_shapes
from joint_st.ops.orthogonal import orthogonalised
from joint_st.runs.checkpoints import named_leaves
from joint_st.training.optimizer import decay_mask, make_optimizer, muon_dimensions, schedule, shrinkage
from joint_st.training.step import output_layers
from tests.training.test_step import CONFIG as BASE

MODEL = override(
    BASE,
    {
        "model": {
            "width": 12,
            "heads": 2,
            "feed_forward": 2,
            "audio_layers": 2,
            "streaming_layers": 1,
            "full_context_layers": 1,
        }
    },
)
RATE, STEPS = 0.01, 100
CONFIG = OptimizerConfig(kind="muon", peak_learning_rate=RATE, warmup_steps=0, weight_decay=0.0, clip_norm=1e9)


def first_update():
    """Gradients drawn at random, and the first update they lead to, by path."""
    shapes, tree = jax.tree.flatten(weight_shapes(MODEL, SymbolSizes(7, 5)))
    random = np.random.default_rng(0)
    gradients = [random.normal(size=leaf.shape).astype(np.float32) for leaf in shapes]
    optimizer = make_optimizer(CONFIG, STEPS, output_layers=output_layers(MODEL))
    weights, gradients = (jax.tree.unflatten(tree, leaves) for leaves in (gradients, gradients))
    updates, _ = jax.jit(lambda g, w: optimizer.update(g, optimizer.init(w), w))(gradients, weights)
    flat = jax.tree_util.tree_leaves_with_path
    by_path = ({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat(t)} for t in (gradients, updates))
    return tuple(by_path)


@pytest.fixture(scope="module")
def muon():
    return first_update()


def by_its_author(matrix):
    """Return the Newton-Schulz iteration of Muon, on one matrix, as its author wrote it down."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


LAYER = "['audio']['layers']['modules']"
MATRICES = {
    f"{LAYER}[0]['inner']['kernel']": (12, 24),
    f"{LAYER}[0]['out']['kernel']": (24, 12),
    f"{LAYER}[1]['query']['kernel']": (12, 12),
    f"{LAYER}[1]['out']['kernel']": (12, 12),
    f"{LAYER}[2]['gate']['kernel']": (12, 12),
    "['front_end']['first']['linear']['kernel']": (240, 12),
    "['front_end']['out']['kernel']": (12, 12),
}


@pytest.mark.parametrize("path", MATRICES)
def test_every_layers_matrix_gets_an_orthogonal_update(muon, path):
    gradients, updates = (x[path].reshape(-1, *MATRICES[path]) for x in muon)
    for gradient, update in zip(gradients, updates):
        # As long as AdamW's: arXiv 2502.16982, section 2.2.
        step = -RATE * 0.2 * np.sqrt(max(MATRICES[path]))
        np.testing.assert_allclose(update / step, by_its_author(gradient), atol=2e-3)


def test_all_else_is_adamws_with_nesterovs_momentum(muon):
    gradients, updates = muon
    others = [path for path in updates if not path.endswith("['kernel']") or "_head" in path]
    assert any("_head" in path for path in others) and any("filters" in path for path in others)
    nadam = optax.nadamw(schedule(CONFIG, STEPS), b1=CONFIG.beta1, b2=CONFIG.beta2, weight_decay=0.0)
    alone = {path: gradients[path] for path in others}
    expected, _ = jax.jit(lambda g: nadam.update(g, nadam.init(g), g))(alone)
    for path in others:
        np.testing.assert_allclose(updates[path], expected[path], rtol=1e-4, atol=1e-7, err_msg=path)


def test_steps_and_the_names_of_the_state_are_those_of_optax():
    """So that runs of earlier versions, whose optimizer was Optax's alone, go on."""
    shapes, tree = jax.tree.flatten(weight_shapes(MODEL, SymbolSizes(7, 5)))
    config = CONFIG.model_copy(update={"weight_decay": 0.1})
    outputs = output_layers(MODEL)

    def dimensions(weights):
        return jax.tree_util.tree_map_with_path(lambda path, leaf: muon_dimensions(path, leaf, outputs), weights)

    ours, theirs = (
        make_optimizer(config, STEPS, output_layers=outputs),
        optax.contrib.muon(
            schedule(config, STEPS),
            adam_b1=config.beta1,
            adam_b2=config.beta2,
            consistent_rms=0.2,
            weight_decay=0.1,
            weight_decay_mask=decay_mask,
            adam_weight_decay=0.0,
            muon_weight_dimension_numbers=dimensions,
        ),
    )
    theirs = optax.chain(optax.clip_by_global_norm(config.clip_norm), theirs)
    random = np.random.default_rng(1)
    weights = jax.tree.unflatten(tree, [random.normal(size=leaf.shape).astype(np.float32) for leaf in shapes])
    states = [optimizer.init(weights) for optimizer in (ours, theirs)]
    assert {name: x.shape for name, x in named_leaves(states[0]).items()} == {
        name: x.shape for name, x in named_leaves(states[1]).items()
    }
    for _ in range(3):
        gradients = jax.tree.unflatten(tree, [random.normal(size=leaf.shape).astype(np.float32) for leaf in shapes])
        found = []
        for n, optimizer in enumerate((ours, theirs)):
            updates, states[n] = jax.jit(optimizer.update)(gradients, states[n], weights)
            found.append({jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(updates)})
        for path in MATRICES:
            np.testing.assert_allclose(*(updates[path] for updates in found), atol=2e-6, err_msg=path)


@pytest.mark.parametrize("shape", [(3, 40, 24), (2, 24, 40), (1, 16, 16)])
@pytest.mark.parametrize("rounded", [False, True])
def test_singular_vectors_stay_and_singular_values_come_near_to_one(shape, rounded):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=(1, 2), keepdims=True)
    u, before, v = np.linalg.svd(x, full_matrices=False)
    found = np.asarray(jax.jit(orthogonalised, static_argnums=1)(x, rounded))
    values = u.swapaxes(1, 2) @ found @ v.swapaxes(1, 2)
    expected = before
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    np.testing.assert_allclose(
        values, expected[..., None] * np.eye(shape[-1 if shape[1] > shape[2] else 1]), atol=0.04 if rounded else 1e-4
    )


def test_kernels_and_filters_decay_whoever_updates_them_and_nothing_else_does():
    config = OptimizerConfig(kind="muon", peak_learning_rate=RATE, warmup_steps=4, weight_decay=0.1)
    optimizer = make_optimizer(config, STEPS, output_layers=output_layers(MODEL))
    weights = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), weight_shapes(MODEL, SymbolSizes(7, 5)))
    nothing, state, update = jax.tree.map(np.zeros_like, weights), optimizer.init(weights), jax.jit(optimizer.update)
    for step in range(3):
        updates, state = update(nothing, state, weights)
        expected = -0.1 * RATE * step / 4
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
            decays = path[-1].key in ("kernel", "filters")
            np.testing.assert_allclose(leaf, expected if decays else 0.0, rtol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_weight_decay_alone_shrinks_kernels_by_the_share_that_is_printed(kind):
    config = OptimizerConfig(kind=kind, peak_learning_rate=0.05, warmup_steps=3, weight_decay=0.2)
    weights = {"layer": {"kernel": np.ones((3, 4), np.float32), "bias": np.ones(4, np.float32)}}
    optimizer = make_optimizer(config, 30, held=7)
    state, zeros = optimizer.init(weights), jax.tree.map(np.zeros_like, weights)
    for _ in range(30):
        updates, state = optimizer.update(zeros, state, weights)
        weights = optax.apply_updates(weights, updates)
    expected = shrinkage(config, 30, held=7)
    assert 0.1 < expected < 0.3
    np.testing.assert_allclose(weights["layer"]["kernel"], 1 - expected, rtol=1e-5)
    np.testing.assert_array_equal(weights["layer"]["bias"], 1)

"""How every weight, and an optimizer's state of it, is cut over a mesh."""

import math
import re

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from joint_st.config import AXES, Config, LmModelConfig, ModelConfig, override
from joint_st.data.symbols import SymbolSizes
from joint_st.distributed.sharding import RULES, WEIGHTS, logical_axes, partition_spec
from joint_st.heads.model import weight_axes, weight_shapes
from joint_st.models.language_model import lm_axes, lm_shapes
from joint_st.training.step import state_shapes
from tests.training.test_joint_step import JOINT
from tests.training.test_step import CONFIG

# Every size is another one, so that a shape says which axis is which.
SIZES = {
    "embed": 24,
    "vector": 24,
    "channels": 24,
    "mlp": 72,
    "heads": 2,
    "head_width": 12,
    "taps": 5,
    "layers": 3,
    "gates": 96,
}
MODEL = ModelConfig(
    width=24,
    heads=2,
    feed_forward=3,
    kernel=5,
    audio_layers=3,
    streaming_layers=3,
    full_context_layers=3,
    text_layers=3,
)


def mesh(**sizes: int) -> AbstractMesh:
    return AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES, axis_types=(AxisType.Auto,) * 3)


def all_weights() -> dict:
    """Shape and logical axes of the joint model's weights, and of two language models', by dotted path."""
    config, sizes = CONFIG.model_copy(update={"model": MODEL}), SymbolSizes(7, 11)
    found = {"joint": (weight_shapes(config, sizes), weight_axes(config, sizes))}
    for tied in (False, True):
        config = LmModelConfig(width=24, layers=3, tied=tied)
        found[f"lm {tied}"] = lm_shapes(config, 7), lm_axes(config, 7)
    return {
        f"{model}.{path}": (leaf, logical_axes(path, own))
        for model, (shapes, own) in found.items()
        for path, leaf in named(shapes).items()
    }


def named(tree) -> dict:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def test_every_weight_has_the_logical_axes_of_its_shape():
    used = set()
    for path, (leaf, axes) in all_weights().items():
        assert axes is not None, f"{path} is new: say which axes it has, in its module or in WEIGHTS"
        assert len(axes) == leaf.ndim, path
        used |= set(axes)
        for axis, size in zip(axes, leaf.shape):
            if axis == "vocabulary":
                assert size in (7, 11), path
            elif axis != "inputs":
                assert size == SIZES[axis], (path, axis)
    assert used == set(RULES), "rules for axes that no weight has"


def test_every_row_of_the_table_is_of_some_weight():
    paths = list(all_weights())
    for pattern in WEIGHTS:
        assert any(re.search(rf"(^|\.)({pattern})$", path) for path in paths), pattern


@pytest.mark.parametrize(
    "path, shape, expected",
    [
        ("streaming.layers.modules.0.inner.kernel", (3, 24, 72), (None, "fsdp", "tensor")),
        ("streaming.layers.modules.3.out.kernel", (3, 72, 24), (None, "tensor", "fsdp")),
        ("modules.1.query.kernel", (24, 2, 12), ("fsdp", "tensor", None)),
        ("audio.layers.modules.1.out.kernel", (3, 2, 12, 24), (None, "tensor", None, "fsdp")),
        ("audio.layers.modules.1.value.bias", (3, 2, 12), (None, "tensor", None)),
        ("audio.layers.modules.2.value.kernel", (3, 24, 24), (None, "fsdp", None)),
        ("audio.layers.modules.2.out.bias", (3, 24), (None, None)),
        ("streaming.layers.modules.2.ahead.filters", (3, 4, 24), (None, None, None)),
        ("1.0.mu.text.embed.embedding", (11, 24), (None, "fsdp")),
        ("unit_head.linear.kernel", (24, 11), ("fsdp", None)),
        ("front_end.out.kernel", (24, 24), (None, "fsdp")),
        # What an axis of the mesh does not divide is held whole.
        ("front_end.out.kernel", (24, 22), (None, None)),
        ("modules.1.query.kernel", (24, 3, 8), ("fsdp", None, None)),
        # No weight's.
        ("1.0.count", (), ()),
        ("inner_states.muon.inner_state.0.ns_coeffs", (3,), ()),
    ],
)
def test_where_an_array_lies(path, shape, expected):
    own = weight_axes(CONFIG, SymbolSizes(7, 11))
    assert partition_spec(path, shape, mesh(fsdp=4, tensor=2), own) == PartitionSpec(*expected)


def test_heads_declare_the_axes_of_their_own_weights():
    own = weight_axes(CONFIG, SymbolSizes(7, 11))
    for path, axes in {
        "streaming_head.linear.kernel": ("embed", "vocabulary"),
        "full_context_head.linear.bias": ("vocabulary",),
        "unit_head.linear.kernel": ("embed", "vocabulary"),
        "text.embed.embedding": ("vocabulary", "embed"),
    }.items():
        assert logical_axes(path, own) == logical_axes(f"1.0.mu.{path}", own) == axes
        assert logical_axes(path, {}) in (None, ("vector",)), "it is the module that says so"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_average_and_the_optimizer_lie_as_the_weights_do(kind):
    config: Config = override(CONFIG, {**JOINT, "optimizer.kind": kind})
    shapes = state_shapes(config, SymbolSizes(6, 7), mesh(data=2, fsdp=4, tensor=2))
    weights = named(shapes.params)
    assert weights["full_context.layers.modules.0.inner.kernel"].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    kept = {"average": [], "mu": [], "nu": [], "other": []}
    for path, leaf in {**named({"average": shapes.average}), **named(shapes.optimizer)}.items():
        of = next((name for name in weights if path.endswith(f".{name}")), None)
        if of is None:
            kept["other"].append(leaf.size)
            assert leaf.sharding.is_fully_replicated
        else:
            kept[next(name for name in kept if name in path.split("."))].append(of)
            assert leaf.shape == weights[of].shape and leaf.sharding == weights[of].sharding
    assert sorted(kept["average"]) == sorted(kept["mu"]) == sorted(weights)
    by_adam = [name for name in weights if kind == "adamw" or "kernel" not in name or "_head" in name]
    assert sorted(kept["nu"]) == sorted(by_adam)
    assert sum(kept["other"]) < 20


@pytest.mark.parametrize(
    "sizes, least, most",
    [({"fsdp": 8}, 1 / 8, 0.135), ({"data": 2, "fsdp": 4}, 1 / 4, 0.26), ({"fsdp": 4, "tensor": 2}, 1 / 8, 0.17)],
)
def test_a_device_holds_its_share(sizes, least, most):
    """Vectors and filters, which are not cut, are a negligible part of a model of realistic size."""
    config = override(CONFIG, {**JOINT, "model.width": 256, "model.heads": 4, "model.feed_forward": 4})
    shapes = jax.tree.leaves(state_shapes(config, SymbolSizes(30, 40), mesh(**sizes)))
    whole = sum(x.size for x in shapes)
    held = sum(math.prod(x.sharding.shard_shape(x.shape)) for x in shapes)
    assert least < held / whole < most

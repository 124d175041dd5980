"""The sharding over the mesh of the weights, and of everything that has their shape.

Every weight has a logical axis for each of its dimensions, and every logical axis is mapped to an axis of the mesh or
to none (`RULES`). The axes of the encoder's layers are listed here (`WEIGHTS`); heads, and other modules with an axis
over symbols, declare their own, which are passed as `own` (`joint_st.models.functional.own_axes`). An optimizer's state
of a weight, and its moving average, are cut like the weight, because their paths end like its path.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from joint_st.distributed.mesh import BATCH, ambient_mesh

RULES = {
    "embed": "fsdp",  # the encoder's width D, as rows or columns of a matrix
    "heads": "tensor",
    "mlp": "tensor",  # the inner width of a feed-forward module
    "vector": None,  # D numbers that are added to or multiplied with an embedding: too few to be worth a message
    "inputs": None,  # of the front end
    "channels": None,  # of the convolution module: 3 of about 23 D² weights, and its norm would have to communicate
    "taps": None,  # frames that a filter spans
    "gates": None,  # of an LSTM: its cells would have to communicate at every step
    "head_width": None,
    "vocabulary": None,  # CTC sums over all labels of a frame, on one device; nor is a label gathered across devices
    "layers": None,  # scanned
}
"""The axis of the mesh that each logical axis lies along; `None`: every device holds it whole."""

FEED_FORWARD, ATTENTION, CONVOLUTION = r"modules\.[03]", r"modules\.1", r"modules\.2"
"""Modules of a conformer layer."""

WEIGHTS = {
    rf"{FEED_FORWARD}\.inner\.kernel": ("embed", "mlp"),
    rf"{FEED_FORWARD}\.inner\.bias": ("mlp",),
    rf"{FEED_FORWARD}\.out\.kernel": ("mlp", "embed"),
    rf"{ATTENTION}\.(query|key|value)\.kernel": ("embed", "heads", "head_width"),
    rf"{ATTENTION}\.(query|key|value)\.bias": ("heads", "head_width"),
    rf"{ATTENTION}\.out\.kernel": ("heads", "head_width", "embed"),
    rf"{CONVOLUTION}\.(value|gate)\.kernel": ("embed", "channels"),
    rf"{CONVOLUTION}\.(depthwise|ahead)\.filters": ("taps", "channels"),
    rf"{CONVOLUTION}\.out\.kernel": ("channels", "embed"),
    r"front_end\.(first\.linear|second\.linear|out)\.kernel": ("inputs", "embed"),
    r"lstm\.layers\.(inputs|recurrent)\.kernel": ("embed", "gates"),
    r"lstm\.layers\.inputs\.bias": ("gates",),
    r"bias|scale": ("vector",),
}
"""Logical axes by the end of a weight's dotted path; the first that fits counts. Weights in a stack have one axis
more."""


Axes = Mapping[str, tuple[str, ...]]
"""Logical axes of weights by their dotted paths in a model."""


def logical_axes(path: str, own: Axes) -> tuple[str, ...] | None:
    """Return the logical axes of the weight at a dotted path, or of an optimizer's state of it; `None` for anything
    else.

    own: axes that modules of the model declare.
    """
    for name, axes in own.items():
        if path == name or path.endswith(f".{name}"):
            return axes
    for pattern, axes in WEIGHTS.items():
        if re.search(rf"(^|\.)({pattern})$", path):
            return ("layers", *axes) if _is_stacked(path) else axes
    return None


def partition_spec(path: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh, own: Axes) -> PartitionSpec:
    """Return how the array of `shape` at a dotted path is cut. own: axes that modules of the model declare.

    A dimension that its axis of the mesh does not divide is not cut, nor is an array that belongs to no weight.
    """

    def cuts(axis, size):
        return axis and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0

    axes = (RULES[axis] for axis in logical_axes(path, own) or ())
    return PartitionSpec(*(axis if cuts(axis, size) else None for axis, size in zip(axes, shape)))


def rows_apart(x: jax.Array) -> jax.Array:
    """Return `x` [B, ...] with each device holding complete rows, so that the compiler does not cut it otherwise."""
    return jax.lax.with_sharding_constraint(x, BATCH) if ambient_mesh(len(x)) else x


def gathered(weights: Any, own: Axes) -> Any:
    """Return the weights of a model, with those outside its stacks gathered along the axis `fsdp`.

    own: axes that modules of the model declare. This and `gathered_layer` have an effect only in functions that are
    traced under a mesh.
    """

    def gather(path, x, cut):
        # Gradients are gathered too and cut by the optimizer. If they were cut at once, the embedding's gradient would
        # make the compiler cut the text's embeddings in the same way, and gather the rows of all devices for that.
        return x if _is_stacked(_dotted(path)) else jax.lax.with_sharding_constraint(x, _without_fsdp(cut))

    return _where_cut(gather, weights, own)


def gathered_layer(layer: Any, dtype) -> Any:
    """Return one layer of a stack, with its weights gathered along the axis `fsdp` where it is used.

    They are sent as `dtype`; their gradients are scattered at once.
    """
    return _where_cut(lambda path, x, cut: _gather(x if dtype is None else x.astype(dtype), cut), layer, {})


def _where_cut(function, tree: Any, own: Axes) -> Any:
    """Call `function` with the path, the array and the cut of each weight in `tree` that is cut along `fsdp`."""
    mesh = ambient_mesh()
    if not gathers():
        return tree

    def on_leaf(path, x):
        cut = partition_spec(_dotted(path), x.shape, mesh, own)
        return function(path, x, cut) if "fsdp" in cut else x

    return jax.tree_util.tree_map_with_path(on_leaf, tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gather(x, cut):
    return jax.lax.with_sharding_constraint(x, _without_fsdp(cut))


_gather.defvjp(
    lambda x, cut: (_gather(x, cut), None),
    lambda cut, _, gradient: (jax.lax.with_sharding_constraint(gradient, cut),),
)


def _without_fsdp(cut: PartitionSpec) -> PartitionSpec:
    return PartitionSpec(*(None if axis == "fsdp" else axis for axis in cut))


def gathers() -> bool:
    """Return whether the mesh of `jax.set_mesh` cuts weights along `fsdp`, in a traced function."""
    mesh = ambient_mesh()
    return mesh is not None and mesh.shape["fsdp"] > 1


def placed(tree: Any, mesh: jax.sharding.Mesh, own: Axes) -> Any:
    """Return the shape, type and `NamedSharding` of each array (or shape) of weights or of a training state.

    own: axes that modules of the model declare.
    """

    def place(path, x):
        sharding = NamedSharding(mesh, partition_spec(_dotted(path), x.shape, mesh, own))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(place, tree)


def shardings(tree: Any) -> Any:
    """Return the sharding of each array (or `placed` shape) of weights or of a training state."""
    return jax.tree.map(lambda x: x.sharding, tree)


def _is_stacked(name: str) -> bool:
    return "layers" in name.split(".")


def _dotted(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")

"""What every kind of head offers: how a pass of the encoder is read out, in training and in decoding."""

from __future__ import annotations

import abc
import importlib
import pkgutil
from typing import ClassVar, TypeVar

import jax
from flax import nnx

from joint_st.config import HeadsConfig

Kind = TypeVar("Kind", bound="type[Head]")

_kinds: dict[str, type[Head]] = {}


class Head(nnx.Module, abc.ABC):
    """Reads labels out of the embeddings of one pass of the encoder.

    A kind of head is one file in this folder, found by its place, whose class is decorated with `@register_head`; its
    section of the config is registered as `heads.KIND`.
    """

    kind: ClassVar[str]
    """Name of the kind in the config: `heads.streaming`, `heads.full_context`."""

    @abc.abstractmethod
    def __init__(self, config: HeadsConfig, width: int, labels: int, *, rngs: nnx.Rngs):
        """A head over an inventory of `labels`, the blank at 0 included, on embeddings of `width` (D) numbers."""

    @staticmethod
    @abc.abstractmethod
    def weights(label_lengths: jax.Array, frames_needed: jax.Array, frames: jax.Array, valid: jax.Array) -> jax.Array:
        """Weights of the loss, float32 [B]: the number of labels, or 0 where the head cannot emit them.

        label_lengths, frames_needed (with CTC's topology), frames: int32 [B]. valid: bool [B].
        """

    @abc.abstractmethod
    def loss(self, x: jax.Array, mask: jax.Array, labels: jax.Array, label_lengths: jax.Array, mesh) -> jax.Array:
        """Negative log likelihood in nats per label, float32 [B]; 0 where the labels cannot be emitted.

        x: embeddings [B, T, D]. mask: valid frames [B, T]. labels: int32 [B, L], `label_lengths` [B] of them.
        """

    @classmethod
    @abc.abstractmethod
    def output_layers(cls) -> tuple[str, ...]:
        """Dotted paths, below the head, of the weights of output layers, which Muon leaves to AdamW."""


def register_head(name: str):
    """Decorator of a class of heads: makes it the kind `name`."""

    def add(kind: Kind) -> Kind:
        kind.kind = name
        _kinds[name] = kind
        return kind

    return add


def head_kind(name: str) -> type[Head]:
    """The class of a kind of heads; the modules of this folder are imported when it is first asked for."""
    if name not in _kinds:
        package = importlib.import_module("joint_st.heads")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"joint_st.heads.{module.name}")
    return _kinds[name]

"""Conditionings: they change the embeddings that enter the shared layers by columns of the batch, such as the language.

A kind of conditioning is one file in this folder, whose class is decorated with
`@register_conditioning`; its section of the config is registered as `conditioning.NAME`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import jax
from flax import nnx

from joint_st.config import ConditioningConfig, registered
from joint_st.kinds import Kinds

Kind = TypeVar("Kind", bound="type[Conditioning]")

CONDITIONINGS = Kinds("joint_st.models.conditioning", "conditioning", "conditioning.{}", "register_conditioning")


class Conditioning(nnx.Module, abc.ABC):
    """Changes the embeddings of every row, of speech and of text alike, depending on some columns of the row."""

    columns: ClassVar[tuple[str, ...]]
    """The fields of a batch that it reads, [B] each; 0 means unknown."""

    @abc.abstractmethod
    def __init__(self, section: Any, width: int, sizes: Any, *, rngs: nnx.Rngs):
        """Make it from its `section` of the config and the `sizes` of the inventories (`SymbolSizes`)."""

    @abc.abstractmethod
    def __call__(self, x: jax.Array, columns: Mapping[str, jax.Array]) -> jax.Array:
        """Return the changed embeddings [B, T, D] of `x` [B, T, D]."""


def register_conditioning(name: str):
    """Register a class as the conditioning of the section `conditioning.NAME`; a decorator."""

    def add(kind: Kind) -> Kind:
        return CONDITIONINGS.register(name)(kind)

    return add


def conditionings(config: ConditioningConfig) -> dict[str, tuple[type[Conditioning], Any]]:
    """Return the class and the section of each conditioning that is on, in the order of their sections."""
    sections = {name: getattr(config, name) for name in registered("conditioning")}
    return {name: (CONDITIONINGS[name], section) for name, section in sections.items() if section.on}

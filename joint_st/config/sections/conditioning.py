"""Sections of what conditions the shared layers in addition to speech and text; the kinds are in
`joint_st.models.conditioning`."""

from __future__ import annotations

from joint_st.config.registry import group
from joint_st.config.sections.base import Section


class ConditionConfig(Section):
    """Fields that the sections of all kinds have in common."""

    on: bool = False
    """Whether the model is conditioned on this column."""


@group("conditioning", of=ConditionConfig)
class ConditioningConfig(Section):
    """Conditionings of the embeddings that enter the shared layers; each kind has a section of its own."""

"""The heads on the passes of the encoder; the kinds are in `joint_st.heads`."""

from __future__ import annotations

import pydantic
from pydantic import Field

from joint_st.config.registry import group, register, registered
from joint_st.config.sections.base import Section, clash
from joint_st.passes import PASSES


@group("heads")
class HeadsConfig(Section):
    """The kind of head on each pass of the encoder; each kind has a section of its own for its choices."""

    streaming: str = Field(default="ctc", min_length=1)
    """Kind of the head on the streaming pass: `ctc`."""
    full_context: str = Field(default="ctc", min_length=1)
    """Kind of the head on the full-context pass: `ctc`."""

    @pydantic.model_validator(mode="after")
    def _kinds(self):
        kinds = registered("heads")
        for name in PASSES:
            if getattr(self, name) not in kinds:
                raise clash(name, f"{getattr(self, name)!r} is not a kind of head; there is {', '.join(kinds)}")
        return self


@register("heads.ctc")
class CtcHeadConfig(Section):
    """CTC has no choices: a linear layer over the labels and the blank."""

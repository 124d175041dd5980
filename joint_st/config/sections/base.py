"""What all sections are, and how they say that their fields clash."""

from __future__ import annotations

import dataclasses
from typing import Any

import pydantic
import pydantic_core

from joint_st.kinds import Kinds


class Section(pydantic.BaseModel):
    """A frozen group of fields that refuses unknown keys."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def clash(path: str, message: str) -> pydantic_core.PydanticCustomError:
    """An error about the field at `path` below the section that raises it."""
    return pydantic_core.PydanticCustomError("clash", "{message}", {"path": path, "message": message})


@dataclasses.dataclass(frozen=True)
class OneOf:
    """What a field of text may hold: the name of a kind. It stands beside the type: `Annotated[str, OneOf(KINDS)]`."""

    kinds: Kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        return pydantic_core.core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str) -> str:
        *others, last = map(repr, self.kinds.names())
        if name not in self.kinds.names():
            choices = f"{', '.join(others)} or {last}" if others else last
            raise pydantic_core.PydanticCustomError("kind", "should be {choices}", {"choices": choices})
        return name

"""What all sections are, and how they say that their fields clash."""

from __future__ import annotations

import pydantic
import pydantic_core


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

"""JSON that may have been written by anyone, or by half: read by pydantic into the shape that it must have.

Python's own reader raises errors of four kinds, `RecursionError` among them, and takes `NaN`, repeated keys and halves of
surrogate pairs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pydantic

from joint_st.errors import UserError

DAMAGED = "it is damaged, or of another program; copy it anew"
"""What to do about a file that this package wrote and that is not as it wrote it."""


def read_json(path: Path, shape: Any, do: str = DAMAGED) -> Any:
    """What a file holds, as a value of the type `shape`; as of `parse_json`. `OSError` is raised as it is."""
    return parse_json(path.read_bytes(), shape, str(path), do)


def parse_json(content: bytes | str, shape: Any, where: str, do: str = DAMAGED) -> Any:
    """JSON as a value of the type `shape`, a class of pydantic's or such as `list[str]`.

    Raises `UserError` where it is no JSON or of another shape: `where` begins the message and `do` ends it.
    """
    try:
        return _adapter(shape).validate_json(content, strict=True)
    except pydantic.ValidationError as error:
        raise UserError(f"{where}: {_first(error)}; {do}") from None


@functools.cache
def _adapter(shape: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(shape)


def _first(error: pydantic.ValidationError) -> str:
    """The first problem in words."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return f"not JSON ({first['ctx']['error']})"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]

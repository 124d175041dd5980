"""JSON that may have been written by anyone, or by half, read into the shape that it must have."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joint_st.errors import UserError

if TYPE_CHECKING:  # the command line, which reads checksums, comes up without it
    import pydantic

NOT_JSON = (ValueError, RecursionError)
"""What Python's reader raises for what is no JSON, is not UTF-8, has a number of thousands of digits, or is nested too
deeply."""

DAMAGED = "it is damaged, or of another program; copy it anew"
"""What to do about a file that this package wrote and that is not as it wrote it."""


def read_json(path: Path, shape: Any, do: str = DAMAGED) -> Any:
    """What a file holds, as a value of the type `shape`; as of `parse_json`. `OSError` is raised as it is."""
    return parse_json(path.read_bytes(), shape, str(path), do)


def parse_json(content: bytes | str, shape: Any, where: str, do: str = DAMAGED) -> Any:
    """JSON as a value of the type `shape`, a class of pydantic's or such as `list[str]`.

    Raises `UserError` where it is no JSON or of another shape: `where` begins the message and `do` ends it.
    """
    import pydantic

    try:
        return _adapter(shape).validate_python(json.loads(content), strict=True)
    except pydantic.ValidationError as error:
        raise UserError(f"{where}: {_first(error)}; {do}") from None
    except NOT_JSON as error:
        raise UserError(f"{where}: not JSON ({' '.join(str(error).split())[:100]}); {do}") from None


@functools.cache
def _adapter(shape: Any) -> pydantic.TypeAdapter:
    import pydantic

    return pydantic.TypeAdapter(shape)


def _first(error: pydantic.ValidationError) -> str:
    """The first problem in words."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]

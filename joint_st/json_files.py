"""Read JSON that may be damaged or come from anyone, and check that it has the expected shape."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joint_st.errors import UserError

if TYPE_CHECKING:  # the command line, which reads checksums, starts faster without it
    import pydantic

NOT_JSON = (ValueError, RecursionError)
"""Errors that Python's reader raises where text is not JSON, not UTF-8, nested too deeply, or has a number of thousands
of digits."""

DAMAGED = "it is damaged, or another program wrote it; copy it again"
"""Advice about a file of this package that is not as it was written."""


def read_json(path: Path, shape: Any, do: str = DAMAGED) -> Any:
    """Read a JSON file as a value of the type `shape`, as `parse_json` does; raises `OSError` where it cannot be
    read."""
    return parse_json(path.read_bytes(), shape, str(path), do)


def parse_json(content: bytes | str, shape: Any, where: str, do: str = DAMAGED) -> Any:
    """Parse JSON as a value of the type `shape`, which is a pydantic class or a type such as `list[str]`.

    Raises `UserError` where it is not JSON or has another shape; the message begins with `where` and ends with `do`.
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
    """Return the first problem in words."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]

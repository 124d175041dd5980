"""What the types of fields hold: unions, tuples and dictionaries are written differently on a command line."""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin


def plain(annotation: Any) -> Any:
    """Return the type without what `Annotated` adds."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union; for another type, that type alone."""
    annotation = plain(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(plain(member) for member in get_args(annotation))
    return (annotation,)


def given(annotation: Any) -> Any:
    """Return the type of a field's value where that is not None: `int` for `int | None`, and for `int`."""
    some = [member for member in members(annotation) if member is not type(None)]
    return some[0] if len(some) == 1 else plain(annotation)


def holder(annotation: Any) -> type | None:
    """Return `list` for a type that holds items in an order, `dict` for one that holds them by name; None for others."""
    annotation = given(annotation)
    origin = get_origin(annotation) or annotation
    return list if origin in (tuple, list) else dict if origin is dict else None


def element(annotation: Any) -> Any:
    """Return the type of the items of a tuple, a list or a dict; None for other types."""
    arguments, held = get_args(given(annotation)) or (Any, Any), holder(annotation)
    return arguments[0] if held is list else arguments[1] if held is dict else None

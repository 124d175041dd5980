"""What all sections are, sections of several kinds, and how sections say that their fields clash."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, get_args, get_origin

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

    @pydantic.model_validator(mode="before")
    @classmethod
    def _one_for_several(cls, values: Any) -> Any:
        """Refuses one section where a tuple or a dictionary of them is expected; else its fields are taken for them."""
        if not isinstance(values, dict):
            return values
        for name, field in cls.model_fields.items():
            holder = get_origin(field.annotation)
            if holder in (tuple, dict) and (what := _bare(values.get(name))):
                written = f"({what},)" if holder is tuple else f'{{"NAME": {what}}}'
                raise clash(name, f"one {what}; write {written}")
        return values


def _bare(value: Any) -> str:
    """What one section is called that stands where several are expected; empty for other values."""
    if isinstance(value, ByKind):
        return value.group().__name__.removesuffix("Config").lower()
    return "section" if isinstance(value, Section) else ""


class ByKind(Section):
    """A section of which there are several kinds, which their field `kind` tells apart.

    A class that derives directly from this one is a group, which fields of other sections name as their type. A class
    that derives from a group is one of its kinds: from then on it works in config files, on the command line, in sweeps
    and in the JSON of a run, also where it is defined in a file of the user's or in a test.
    """

    kind: Any
    """Which of the kinds it is; each kind declares its own name, a `Literal`."""

    registered: ClassVar[dict[str, type[ByKind]]]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if cls.is_group():
            cls.registered = {}
            return
        (name,) = get_args(cls.model_fields["kind"].annotation)
        if name in cls.registered:
            raise ValueError(f"{cls.__name__}: {cls.registered[name].__name__} is of kind {name!r} already")
        cls.registered[name] = cls
        _rebuild_holders(cls.group())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        if not cls.__dict__.get("registered"):  # a kind, or a group that has none yet
            return handler(source)
        choices = {name: handler.generate_schema(section) for name, section in cls.registered.items()}
        return pydantic_core.core_schema.tagged_union_schema(choices, "kind")

    @classmethod
    def is_group(cls) -> bool:
        """Whether fields name this class, and not one of its kinds, as their type."""
        return ByKind in cls.__bases__

    @classmethod
    def group(cls) -> type[ByKind]:
        """The group that a kind belongs to."""
        return next(base for base in cls.__mro__ if ByKind in base.__bases__)

    @classmethod
    def forget(cls) -> None:
        """Takes a kind out of its group again; for tests."""
        (name,) = get_args(cls.model_fields["kind"].annotation)
        del cls.registered[name]
        _rebuild_holders(cls.group())

    @classmethod
    def read(cls, text: str) -> dict[str, Any]:
        """Plain data of what was written short, `KIND` or `KIND:REST`. Groups are asked."""
        name, _, rest = text.partition(":")
        section = cls.registered.get(name)
        return {"kind": name, **(section.read_rest(rest) if section and rest else {})}

    @classmethod
    def read_rest(cls, text: str) -> dict[str, Any]:
        """Fields as `REST` says them: the value of the first one, unless a kind reads it otherwise. Kinds are asked."""
        first = next(name for name in cls.model_fields if name != "kind")
        return {first: text}


def _rebuild_holders(section: type[Section]) -> None:
    """Has every section that holds this one, at any depth, follow a change of it."""
    for other in _derived(Section):
        if any(section in _mentioned(field.annotation) for field in other.model_fields.values()):
            other.model_rebuild(force=True)
            _rebuild_holders(other)


def _derived(section: type[Section]) -> Iterator[type[Section]]:
    for one in section.__subclasses__():
        yield one
        yield from _derived(one)


def _mentioned(annotation: Any) -> Iterator[Any]:
    """The types of which a type is made, itself among them."""
    yield annotation
    for argument in get_args(annotation):
        yield from _mentioned(argument)


def clash(path: str, message: str) -> pydantic_core.PydanticCustomError:
    """An error about the field at `path` below the section that raises it."""
    return pydantic_core.PydanticCustomError("clash", "{message}", {"path": path, "message": message})


@dataclasses.dataclass(frozen=True)
class OneOf:
    """What a field of text may hold: the name of a kind. Annotates the type: `Annotated[str, OneOf(KINDS)]`."""

    kinds: Kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        return pydantic_core.core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str) -> str:
        *others, last = map(repr, self.kinds.names())
        if name not in self.kinds.names():
            choices = f"{', '.join(others)} or {last}" if others else last
            raise pydantic_core.PydanticCustomError("kind", "should be {choices}", {"choices": choices})
        return name

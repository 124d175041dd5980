"""The base class of all sections, sections of which there are several kinds, and errors about fields that clash."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, get_args

import pydantic
import pydantic_core

from joint_st.config.annotations import holder
from joint_st.errors import UserError
from joint_st.kinds import Kinds, Registry

HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair; Python has them in place of bytes of a file's name that are not in UTF-8."""


class Section(pydantic.BaseModel):
    """A frozen group of fields that refuses unknown keys."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @pydantic.field_validator("*")
    @classmethod
    def _in_utf_8(cls, value: Any) -> Any:
        """Refuse text that the JSON of a run cannot hold, such as a path whose name is in another encoding."""
        if any(map(HALF_PAIR.search, _texts(value))):
            raise pydantic_core.PydanticCustomError("encoding", "is not in UTF-8; give the file a name that is")
        return value

    @pydantic.model_validator(mode="before")
    @classmethod
    def _one_for_several(cls, values: Any) -> Any:
        """Refuse a single section where a tuple or a dictionary of sections is expected; pydantic would iterate over
        its fields."""
        if not isinstance(values, dict):
            return values
        for name, field in cls.model_fields.items():
            held = holder(field.annotation)
            if held and (what := _bare(values.get(name))):
                written = f"({what},)" if held is list else f'{{"NAME": {what}}}'
                raise clash(name, f"one {what}; write {written}")
        return values


def _texts(value: Any) -> Iterator[str]:
    """Yield a text, or the texts in tuples, lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(part)


def _bare(value: Any) -> str:
    """Return what to call a single section that stands where several are expected; empty for other values."""
    if isinstance(value, ByKind):
        return value.group().__name__.removesuffix("Config").lower()
    return "section" if isinstance(value, Section) else ""


class ByKind(Section):
    """A section of which there are several kinds, told apart by their field `kind`.

    A class that derives directly from this one is a group, which fields of other sections name as their type. A class
    that derives from a group is one of its kinds: it then works in config files, on the command line, in sweeps and in
    the JSON of a run, even if a user's file or a test defines it.
    """

    kind: Any
    """Which of the kinds it is; each kind declares its own name, a `Literal`."""

    registered: ClassVar[Registry]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if cls.is_group():
            cls.registered = Registry()
            return
        (name,) = get_args(cls.model_fields["kind"].annotation)
        cls.registered.add(name, cls)
        _rebuild_holders(cls.group())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        if not cls.__dict__.get("registered"):  # a kind, or a group without kinds so far
            return handler(source)
        choices = {name: handler.generate_schema(section) for name, section in cls.registered.items()}
        return pydantic_core.core_schema.tagged_union_schema(choices, "kind")

    @classmethod
    def is_group(cls) -> bool:
        """Return whether this class is a group, which fields name as their type, and not a kind."""
        return ByKind in cls.__bases__

    @classmethod
    def group(cls) -> type[ByKind]:
        """Return the group that a kind belongs to."""
        return next(base for base in cls.__mro__ if ByKind in base.__bases__)

    @classmethod
    def forget(cls) -> None:
        """Remove a kind from its group again; for tests."""
        (name,) = get_args(cls.model_fields["kind"].annotation)
        del cls.registered[name]
        _rebuild_holders(cls.group())

    @classmethod
    def read(cls, text: str) -> dict[str, Any]:
        """Return plain data of a section written short, as `KIND` or `KIND:REST`. Called on groups."""
        name, _, rest = text.partition(":")
        section = cls.registered.get(name)
        return {"kind": name, **(section.read_rest(rest) if section and rest else {})}

    @classmethod
    def read_rest(cls, text: str) -> dict[str, Any]:
        """Return the fields that `REST` stands for: by default the value of the first one. Called on kinds, which may
        override it."""
        for name, field in cls.model_fields.items():
            if name != "kind":
                return {name: [text] if holder(field.annotation) is list else text}
        raise UserError(f"{cls.model_fields['kind'].default}:{text}: this kind takes nothing after the colon")


def _rebuild_holders(section: type[Section]) -> None:
    """Rebuild every section that holds this one, at any depth, after it has changed."""
    for other in _derived(Section):
        if any(section in _mentioned(field.annotation) for field in other.model_fields.values()):
            other.model_rebuild(force=True)
            _rebuild_holders(other)


def _derived(section: type[Section]) -> Iterator[type[Section]]:
    for one in section.__subclasses__():
        yield one
        yield from _derived(one)


def _mentioned(annotation: Any) -> Iterator[Any]:
    """Return the types that a type is composed of, itself included."""
    yield annotation
    for argument in get_args(annotation):
        yield from _mentioned(argument)


class Unused(NamedTuple):
    """A field that has a value, and that nothing trains on."""

    path: str
    why: str
    do: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}; {self.do}"


def clash(path: str, message: str) -> pydantic_core.PydanticCustomError:
    """Return an error about the field at `path` below the section that raises it."""
    return pydantic_core.PydanticCustomError("clash", "{message}", {"path": path, "message": message})


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Annotation of a text field that holds the name of a kind: `Annotated[str, OneOf(KINDS)]`."""

    kinds: Kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: pydantic.GetCoreSchemaHandler) -> Any:
        return pydantic_core.core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str) -> str:
        *others, last = map(repr, self.kinds.names())
        if name not in self.kinds.names():
            choices = f"{', '.join(others)} or {last}" if others else last
            raise pydantic_core.PydanticCustomError("kind", "should be {choices}", {"choices": choices})
        return name

"""Overrides among the arguments of a command: `--model.width 256`, `--model.width=256`, `--data.strict`."""

from __future__ import annotations

from collections.abc import Sequence

from joint_st.config.problems import nearest
from joint_st.config.schema import Config
from joint_st.config.sections.base import Section
from joint_st.config.tree import join, paths, plain, sections
from joint_st.errors import UserError

TRUTH = {"true", "false", "yes", "no", "on", "off", "1", "0"}
"""What may follow a flag of a true-or-false field; anything else is no value of it."""


def split_overrides(
    arguments: Sequence[str], options: dict[str, bool], root: type[Section] = Config
) -> tuple[dict[str, str], list[str]]:
    """(overrides by dotted path, other arguments).

    `options` are the command's own options (`--workdir`) and whether each takes a value; every other argument
    that starts with `--` is an override of a config of type `root`. The value may start with a minus sign.
    """
    flags = {
        join(prefix, name)
        for prefix, section in sections(root)
        for name, field in section.model_fields.items()
        if plain(field.annotation) is bool
    }
    known = paths(root)
    overrides, others = {}, []
    todo = list(arguments)
    while todo:
        argument = todo.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name in options:
            others.append(argument)
            if options.get(name) and not equals and todo:
                others.append(todo.pop(0))
            continue
        path = name.removeprefix("--")
        _refuse_misspelt(path, options, known)
        if not equals:
            if path in flags:
                value = todo.pop(0) if todo and todo[0].lower() in TRUTH else "true"
            elif todo and not todo[0].startswith("--"):
                value = todo.pop(0)
            elif path in known:
                raise UserError(f"{name}: a value is missing")
        overrides[path] = value
    return overrides, others


def _refuse_misspelt(path: str, options: dict[str, bool], fields: Sequence[str]) -> None:
    """Takes `--workdri` for an option rather than for a field of the config."""
    known = [option.removeprefix("--") for option in options]
    if "." not in path and path not in fields and (near := nearest(path, known)):
        raise UserError(f"--{path}: unknown option; did you mean --{near}?")

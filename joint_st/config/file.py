"""Config files: Python files that define `config()`, and the JSON that a run keeps.

That JSON carries the number of its format. A later format comes with a migration from the one before it, so that runs
stay readable; formats without one are refused, with the version of joint_st that reads them.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import itertools
import json
import os
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pydantic

from joint_st import storage
from joint_st.config.language_model import LmConfig
from joint_st.config.neighbours import importable
from joint_st.config.problems import explain, one_line, shown
from joint_st.config.schema import Config
from joint_st.config.sections.data import NORMALIZERS
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON

Made = TypeVar("Made")
Root = TypeVar("Root", Config, LmConfig)

COMMANDS: dict[type, str] = {Config: "`joint-st train`", LmConfig: "`joint-st train-lm`"}
"""Commands that take a config of each kind."""

FILE_NAME = "config.json"
"""The resolved config within a run."""

FORMAT = 3
"""Number of the format of runs that this version writes; it stands for the names and meanings of their config's keys.
Change it with an entry in `MIGRATIONS` and a stored run among the tests, `tests/runs/format_N`."""


def _versioned_normalizer(read: dict) -> dict:
    """Migrate format 2, in which the name of a normaliser meant its only version."""
    data = read.get("data")
    if not isinstance(data, dict) or data.get("normalizer", "english") not in NORMALIZERS:
        return read
    return {**read, "data": {**data, "normalizer": f"{data.get('normalizer', 'english')} v1"}}


MIGRATIONS: dict[int, Callable[[dict], dict]] = {2: _versioned_normalizer}
"""The config of a run, as JSON has it, in the next format, by the format it is in. Format 1, which was never released,
has no migration."""

READ_BY = {1: "0.1.0"}
"""Last version of joint_st that reads runs of a format without a migration."""


def load(path: str | os.PathLike[str], kind: type[Root] = Config) -> Root:  # type: ignore[assignment]
    """Load the config of a Python file, of a JSON file, or of a run's directory. kind: the class of the config, for
    speech or for a language model.

    A Python file may itself load another one and change it:
    `override(load(Path(__file__).with_name("quickstart.py")), {"model.width": 256})`.
    Raises `UserError` with one line; for a mistake in a Python file the line gives its place.
    """
    path = storage.path(path)
    storage.check_access(path)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            raise UserError(f"{path}: a folder without {FILE_NAME}; give a config file or the directory of a run")
        path = path / FILE_NAME
    if path.suffix == ".py":
        return from_python(path, functools.partial(_call_config, kind=kind))
    if not path.is_file():
        raise UserError(f"{path}: no such file{_hint(path)}")
    if path.suffix == ".json":
        return _from_json(path, kind)
    raise UserError(f"{path}: a config is a Python file, a JSON file or the directory of a run")


def save(config: Config | LmConfig, path: str | os.PathLike[str]) -> None:
    """Writes the config as JSON, with the number of the format; a reader sees the old file or the whole new one."""
    numbered = {"format": FORMAT, **config.model_dump(mode="json")}
    storage.write_whole(storage.path(path), json.dumps(numbered, indent=2, ensure_ascii=False) + "\n")


def docstring(path: str | os.PathLike[str]) -> str:
    """Return the docstring of a Python config file, without running it; "" for other files."""
    path = storage.path(path)
    if path.suffix != ".py":
        return ""
    import ast

    return ast.get_docstring(ast.parse(path.read_bytes())) or ""


_extensions: dict[Path, tuple[str, types.ModuleType]] = {}
"""The files of the user's that `extend` has run, as they were named, by their resolved paths."""


_numbers = itertools.count()
"""Numbers of the modules that files of the user's have been run as."""


def extend(path: str | os.PathLike[str]) -> None:
    """Run a Python file of the user's, so that the sections, losses and kinds that it registers are known from now on, in
    the configs of runs too. A config file that is named by `load` later is not run a second time.

    Raises `UserError` with one line for anything that goes wrong in the file.
    """
    resolved = Path(path).resolve()
    if resolved not in _extensions:
        _extensions[resolved] = os.fspath(path), from_python(path, lambda module: module)


def extensions() -> list[str]:
    """Return the files that `extend` has run, as they were named."""
    return [name for name, _ in _extensions.values()]


def from_python(path: str | os.PathLike[str], make: Callable[[types.ModuleType], Made]) -> Made:
    """Run a Python file of the user's, which may import modules of its folder, and return what `make` makes of its names.

    Raises `UserError` with one line for anything that goes wrong in the file, or in its functions when `make` calls
    them.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file{_hint(path)}")
    _, known = _extensions.get(path.resolve(), ("", None))
    module = known or types.ModuleType(f"joint_st_file_{next(_numbers)}")
    module.__file__ = str(path)
    failed = True
    # The file is the user's and may raise anything: its place and its message are what helps.
    try:
        with importable(path.parent):
            if not known:
                # Dataclasses and pydantic look up there what the names in postponed annotations stand for.
                sys.modules[module.__name__] = module
                exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
            made = make(module)
        failed = False
        return made
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except pydantic.ValidationError as error:
        raise UserError(f"{_place(error, path)}: {one_line(explain(error))}") from error
    except Exception as error:
        message = one_line([f"{type(error).__name__}: {error}".rstrip(": ")])
        raise UserError(f"{_place(error, path)}: {message}") from error
    finally:
        if failed and not known:
            sys.modules.pop(module.__name__, None)


def is_language_model(directory: str | os.PathLike[str]) -> bool:
    """Return whether a directory is the run of a language model."""
    path = storage.path(directory) / FILE_NAME
    return path.is_file() and _says_language_model(path)


def _says_language_model(path: Path) -> bool:
    try:
        read = json.loads(path.read_bytes())
    except NOT_JSON:
        return False
    return isinstance(read, dict) and read.get("kind") == LmConfig.model_fields["kind"].default


def _from_json(path: Path, kind: type[Root]) -> Root:
    other = LmConfig if _says_language_model(path) else Config
    if other is not kind and LmConfig in (other, kind):
        raise UserError(f"{path}: a config that {COMMANDS[other]} takes, not {COMMANDS[kind]}")
    text: str | bytes = path.read_bytes()
    with contextlib.suppress(*NOT_JSON):  # text that is not JSON is explained together with other mistakes
        read = json.loads(text)
        text = json.dumps(_migrated(read, path)) if isinstance(read, dict) else text
    try:
        return kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise UserError(f"{path}: {one_line(explain(error))}") from error


def _migrated(read: dict, path: Path) -> dict:
    """Return the config in a JSON file, migrated to today's format, without the number of its format.

    A run's config without a number has format 1; JSON that a person writes need not have one. Raises
    `UserError` for a format that this version does not read.
    """
    number = read.pop("format", 1 if path.name == FILE_NAME else FORMAT)
    while isinstance(number, int) and number in MIGRATIONS:
        read, number = MIGRATIONS[number](read), number + 1
    if isinstance(number, int) and number in READ_BY:
        raise UserError(
            f"{path}: a run of format {number}, which joint_st {READ_BY[number]} reads, and this version does not: "
            f"use that version, or train again"
        )
    if number != FORMAT:
        raise UserError(
            f"{path}: a run of format {shown(number)}, and this version reads {FORMAT}; use a newer joint_st"
        )
    return read


def _call_config(module: types.ModuleType, kind: type[Root]) -> Root:
    path = module.__file__
    if not callable(getattr(module, "config", None)):
        raise UserError(f"{path}: defines no function config(); it should return a joint_st.config.{kind.__name__}")
    result = module.config()
    if not isinstance(result, kind):
        hint = f"; {COMMANDS[type(result)]} takes it" if type(result) in COMMANDS else ""
        raise UserError(f"{path}: config() returned {type(result).__name__}, not joint_st.config.{kind.__name__}{hint}")
    return result


def _place(error: Exception, path: Path) -> str:
    """Return the last line of the config file that took part in an error."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _hint(path: Path) -> str:
    """Return a hint at a file in the same folder whose name is similar to that of a missing one."""
    if storage.is_remote(path) or not path.parent.is_dir():
        return ""
    near = difflib.get_close_matches(path.name, sorted(entry.name for entry in path.parent.iterdir()), n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""

"""Sweep files: Python files that define `BASE` and `runs()`, and optionally `REFERENCE` or `REFERENCES`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
import os
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic_core

from joint_st import storage
from joint_st.config import Config, load, override
from joint_st.config.file import docstring, from_python
from joint_st.config.problems import nearest, shown
from joint_st.errors import UserError
from joint_st.runs.directory import RunDirectory

DIRECTORY = Path("runs") / "sweeps"
"""Default folder of the directories of sweeps, each named like its file; for sweeps in buckets, folder of their logs.
"""


def fingerprint(config: Config) -> str:
    """Return a short text that changes with any field of a config."""
    values = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()[:12]


def check_fingerprint(config: Config, expected: str, file: str | os.PathLike[str]) -> None:
    """Raise `UserError` where the config of a file is not the one that a sweep has resolved from it."""
    if fingerprint(config) != expected:
        raise UserError(
            f"{file}: resolves to another config than when the sweep began (--fingerprint): it has changed, or differs on "
            "this machine; start the sweep again"
        )


@dataclass(frozen=True)
class Run:
    """One training of a sweep: an arm (a point of comparison) under one of its seeds."""

    arm: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Values by dotted path that replace those of the base config, as `joint_st.config.override` takes them."""
    seed: int = 0
    """Value of the config's `seed`."""

    @property
    def name(self) -> str:
        """Name of the run, `arm/seed_0`, which is also its directory within that of the sweep."""
        return f"{self.arm}/seed_{self.seed}"


@dataclass(frozen=True)
class Job:
    """A run of a sweep with its resolved config and its place."""

    run: Run
    base: Path
    """Config file of the sweep's base."""
    values: Mapping[str, str]
    """All overrides by dotted path, as typed on the command line."""
    config: Config
    directory: RunDirectory
    here: Path
    """Directory of the job on a disk of this machine: the run's own, or one that holds its log where the run is in a
    bucket."""

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its config."""
        return fingerprint(self.config)

    # Files next to its directory, on a disk:

    @property
    def log(self) -> Path:
        """File with what the process that trains or launches it prints."""
        return self._beside("log")

    @property
    def lock(self) -> Path:
        """File that is locked while a process of this machine trains or launches it."""
        return self._beside("lock")

    @property
    def submission(self) -> Path:
        """File that is written when a launch script ended with status 0; the log's last line then names the job."""
        return self._beside("submitted")

    @property
    def failure(self) -> Path:
        """File that says in one line why it failed; removed when it is started again."""
        return self._beside("failed")

    def _beside(self, ending: str) -> Path:
        return self.here.with_name(f"{self.here.name}.{ending}")


@dataclass(frozen=True)
class Sweep:
    """The runs that a sweep file asks for."""

    file: Path
    summary: str
    """First line of the sweep file's docstring."""
    directory: Path
    here: Path
    """Folder of the logs and locks of its jobs."""
    jobs: tuple[Job, ...]
    references: tuple[str, ...]
    """Names of the arms that the others are compared with."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms in the order of the file."""
        return tuple(dict.fromkeys(job.run.arm for job in self.jobs))

    def only(self, names: Sequence[str]) -> tuple[Job, ...]:
        """Return the jobs of some names, `ARM/seed_N`, or of some arms; all jobs where no name is given.

        Raises `UserError` for a name that the sweep does not have.
        """
        known = {name for job in self.jobs for name in (job.run.arm, job.name)}
        for name in names:
            if name not in known:
                near = _near(name, [job.name for job in self.jobs] if "/" in name else self.arms)
                raise UserError(f"{name}: neither an arm nor a run of {self.file}; {near}")
        return tuple(job for job in self.jobs if not names or not {job.run.arm, job.name}.isdisjoint(names))


def load_sweep(file: str | os.PathLike[str], workdir: str | os.PathLike[str] | None = None) -> Sweep:
    """Load the sweep of a Python file, in `workdir` (`runs/sweeps/NAME`, with the file's name, by default) or a bucket.

    The configs of all runs are resolved and validated. Raises `UserError` with one line.
    """
    file = Path(file)
    if file.suffix != ".py":
        raise UserError(f"{file}: not a sweep; a sweep is a Python file that defines BASE and runs()")
    base, runs, references = from_python(file, _names)
    base = Path(os.path.normpath(file.parent / base))
    base_config = load(base)
    _check_test_splits(base_config, str(base))
    directory = here = storage.path(workdir) if workdir else DIRECTORY / file.stem
    if storage.is_remote(directory):
        storage.check_access(directory)
        here = DIRECTORY / str(directory).removeprefix(storage.SCHEME)
    jobs = tuple(_job(run, file, base, base_config, directory, here) for run in runs)
    summary = (docstring(file).strip().splitlines() or [""])[0]
    return Sweep(file, summary, directory, here, jobs, references)


def _names(module: types.ModuleType) -> tuple[str, list[Run], tuple[str, ...]]:
    """Return BASE, the runs and the names of the arms of reference of a sweep file."""
    path = module.__file__
    base = getattr(module, "BASE", None)
    if not isinstance(base, str | os.PathLike):
        raise UserError(f"{path}: BASE is missing; it should be the path of a config file, relative to this one")
    if not callable(getattr(module, "runs", None)):
        raise UserError(f"{path}: defines no function runs(); it should yield joint_st.sweeps.Run")
    runs = []
    for run in _iterable(module.runs(), path):
        run = _checked(run, path)
        if run.name in {other.name for other in runs}:
            raise UserError(f"{path}: two runs are called {run.name}; give them other arms or seeds")
        runs.append(run)
    if not runs:
        raise UserError(f"{path}: runs() yields no run")
    return os.fspath(base), runs, _references(module, tuple(dict.fromkeys(run.arm for run in runs)))


def _iterable(value: Any, path: str) -> Iterable:
    if not isinstance(value, Iterable):
        raise UserError(f"{path}: runs() returned {type(value).__name__}; it should yield joint_st.sweeps.Run")
    return value


def _checked(run: Any, path: str) -> Run:
    """Return a run with its seed as an int; raises `UserError` for what is no run."""
    if not isinstance(run, Run):
        raise UserError(f"{path}: runs() yields {type(run).__name__}; it should yield joint_st.sweeps.Run")
    if not (isinstance(run.arm, str) and re.fullmatch(r"\w[\w.+=-]*", run.arm)):
        raise UserError(f"{path}: arm {run.arm!r}: a name is a letter or digit, then letters, digits and . + = - _")
    try:
        seed = None if isinstance(run.seed, bool) else operator.index(run.seed)
    except TypeError:
        seed = None
    if seed is None:
        raise UserError(f"{path}: seed of {run.arm} is {shown(run.seed)}; give a whole number")
    run = dataclasses.replace(run, seed=seed)
    if not isinstance(run.overrides, Mapping):
        raise UserError(f"{path}: overrides of {run.name} should be a dict of values by dotted path")
    if odd := [name for name in run.overrides if not isinstance(name, str)]:
        raise UserError(
            f"{path}: overrides of {run.name} hold {odd[0]!r}; a field is named by its dotted path, as text"
        )
    if "seed" in run.overrides:
        raise UserError(f"{path}: overrides of {run.name} hold seed; write Run(..., seed={run.overrides['seed']})")
    return run


def _references(module: types.ModuleType, arms: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in `REFERENCES`, or the one in `REFERENCE`."""
    path = module.__file__
    if hasattr(module, "REFERENCE") and hasattr(module, "REFERENCES"):
        raise UserError(f"{path}: has both REFERENCE and REFERENCES; keep one")
    names = getattr(module, "REFERENCES", getattr(module, "REFERENCE", ()))
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in arms:
            raise UserError(
                f"{path}: REFERENCE{'S' * (len(names) > 1)} names {name!r}, which is not an arm; {_near(name, arms)}"
            )
    return names


def _check_test_splits(config: Config, where: str) -> None:
    if not config.data.test:
        raise UserError(f"{where}: data.test names no split, and a sweep compares runs on test splits")


def _job(run: Run, file: Path, base: Path, base_config: Config, directory: Path, here: Path) -> Job:
    # The process that trains gets the overrides as text, so it is the text that is checked.
    try:
        values = {path: _text(value, path) for path, value in {"name": run.name, **run.overrides}.items()}
        values["seed"] = str(run.seed)
        # In a field that holds text, "none" would be a text: None itself has to fit.
        config = override(base_config, values | {path: None for path, value in run.overrides.items() if value is None})
    except UserError as error:
        raise UserError(f"{file}: {run.name}: {error}") from error
    _check_test_splits(config, f"{file}: {run.name}")
    return Job(run, base, values, config, RunDirectory(directory / run.name), here / run.name)


def _text(value: Any, path: str) -> str:
    """Return a value as the text that `override` parses to it."""
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if value is None:
        return "none"
    try:
        return json.dumps(pydantic_core.to_jsonable_python(value))
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise UserError(
            f"{path}: a value of type {type(value).__name__} cannot be written on a command line"
        ) from error


def _near(name: str, arms: Sequence[str]) -> str:
    near = nearest(name, list(arms))
    return f"did you mean {near}?" if near else f"it has {', '.join(arms)}"

"""This package and its commit, Python, and the packages that results depend on, as they are installed here.

Versions are read from the files that pip has written. No package is imported: JAX would open the devices, which blocks
on one host of a pod until all others open theirs.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import joint_st

PACKAGES = (
    "jax",
    "jaxlib",
    "libtpu",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
    "pydantic",
    "sentencepiece",
    "rapidfuzz",
    "soundfile",
    "espeakng-loader",
)
"""Distributions whose versions can change what a run computes or reads; those that are not installed are left out."""

COMMIT_FILE = "COMMIT"
"""File in the package that `setup.py` writes when it builds a wheel."""

GIT_SECONDS = 5
"""Time limit for git: a checkout on a network disk that does not answer must not hold up the command."""


def own_commit() -> str:
    """Return in words the commit of this package, see `commit`."""
    return commit(Path(joint_st.__file__).parent)


def packages(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those of some distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def version_lines() -> list[str]:
    """Return what `joint-st --version` prints, by lines."""
    return [
        f"joint-st {joint_st.__version__}, {own_commit()}",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        *(f"{name} {version}" for name, version in packages().items()),
    ]


def commit(package: Path) -> str:
    """Return in words the commit of the package's git checkout, or the commit that its wheel was built from."""
    stored = package / COMMIT_FILE
    if stored.is_file():
        return f"commit {stored.read_text(encoding='ascii').strip()}"
    # A `.git` further up belongs to another project that contains this package.
    if not (package.parent / ".git").exists():
        return "commit unknown (no git checkout)"
    try:
        head = _git(package.parent, "rev-parse", "--short=12", "HEAD")
        changed = _git(package.parent, "status", "--porcelain", "--untracked-files=no", "--", "joint_st")
    except (OSError, subprocess.SubprocessError):
        return "commit unknown (git does not answer)"
    return f"commit {head}" + (" and changes that are not committed" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    return done.stdout.strip()

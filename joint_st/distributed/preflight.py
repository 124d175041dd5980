"""Checks before the first compilation for mistakes that would make a job on several hosts hang or give wrong results
silently.

Each raises `UserError` on process 0 with one line that names the process and the host that differ, which ends all
processes (`joint_st.distributed.watch`). No device computes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import secrets
import time
from pathlib import Path

import joint_st
from joint_st import storage
from joint_st.config import Config, LmConfig
from joint_st.config.problems import shown
from joint_st.config.tree import leaves
from joint_st.distributed.peers import Peers
from joint_st.errors import UserError

ANSWER_SECONDS = 120
"""Time limit for every process to answer."""
DATA_SECONDS = 3600
"""Time limit for every process to read its data, once process 0 has."""
SEEN_SECONDS = 60
"""Time limit for a file written on one host to appear on the others, because network file systems cache its absence."""
MEETING = ".preflight"
"""Folder in the directory of a run into which each process writes."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def check_code(peers: Peers, versions: dict[str, str] | None = None) -> None:
    """Check that all have the same sources of this package, and the same versions of `PACKAGES`."""
    own = json.dumps(versions or _versions())
    for index, told in enumerate(peers.gather("versions of its packages", own, ANSWER_SECONDS)):
        for name, version in json.loads(told).items():
            here = json.loads(own)[name]
            if version != here:
                raise UserError(
                    f"{peers.name(index)}: {name} {version} there, {here} in {peers.name(0)}; "
                    "install the same everywhere"
                )
    peers.wait("versions compared", 2 * ANSWER_SECONDS)


def check_config(peers: Peers, config: Config | LmConfig) -> None:
    """Check that all have the same resolved config."""
    own = json.dumps(config.model_dump(mode="json"))
    for index, told in enumerate(peers.gather("config", own, ANSWER_SECONDS)):
        if told == own:
            continue
        theirs = {leaf.path: leaf.value for leaf in leaves(type(config).model_validate_json(told))}
        ours = {leaf.path: leaf.value for leaf in leaves(config)}
        for path in {**ours, **theirs}:
            there, here = (shown(side[path]) if path in side else "absent" for side in (theirs, ours))
            if there != here:
                raise UserError(
                    f"{peers.name(index)}: {path}: {there} there, {here} in {peers.name(0)}; "
                    "start all with the same config"
                )
    peers.wait("configs compared", 2 * ANSWER_SECONDS)


def check_directory(peers: Peers, root: Path, seen_seconds: float = SEEN_SECONDS) -> None:
    """Check that all hosts see the directory that process 0 has made for the run, and can write to it."""
    if not peers.several:
        return
    problem, folder = "", root / MEETING
    if peers.is_first:
        folder.mkdir(exist_ok=True)
        token = secrets.token_hex(8)
        (folder / "0").write_text(token)
        peers.store.set("token", token)
    else:
        token = peers.store.get("token", ANSWER_SECONDS)
        problem = _problem(peers, root, token, seen_seconds)
    for index, told in enumerate(
        peers.gather("answer whether it finds the run", problem, ANSWER_SECONDS + seen_seconds)
    ):
        if not told and not _appears(folder / str(index), token, seen_seconds):
            told = f"what it writes in {root} is not seen from {peers.name(0)}; give a --workdir that all hosts share"
        if told:
            raise UserError(f"{peers.name(index)}: {told}")
    if peers.is_first:
        storage.remove_folder(folder)
    peers.wait("directory found", 2 * (ANSWER_SECONDS + seen_seconds))


def check_data(peers: Peers, fingerprint: str, what: str) -> None:
    """Check by a fingerprint that all have opened the same data; `what` names the config's fields of the data."""
    for index, told in enumerate(peers.gather(f"fingerprint of {what}", fingerprint, DATA_SECONDS)):
        if told != fingerprint:
            raise UserError(
                f"{peers.name(index)}: {what}: other utterances there than in {peers.name(0)}; copy the same data to "
                "all hosts"
            )
    peers.wait(f"{what} compared", 2 * DATA_SECONDS)


def _problem(peers: Peers, root: Path, token: str | None, seen_seconds: float) -> str:
    """Return why this process, which is not the first, cannot take part in the run at `root`; empty where it can."""
    folder = root / MEETING
    try:
        storage.check_access(root)
        if token is None or not _appears(folder / "0", token, seen_seconds):
            return f"{root} is not the directory that {peers.name(0)} made there; give a --workdir that all hosts share"
        with storage.as_user_error(root):
            (folder / str(peers.index)).write_text(token)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{root} cannot be written: {error.strerror}; give all hosts the right to"
    return ""


def _appears(path: Path, text: str, seconds: float) -> bool:
    """Return whether a file holds `text`, now or soon."""
    until = time.monotonic() + seconds
    while True:
        try:
            if path.read_text() == text:
                return True
        except OSError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.2)


@functools.cache
def _versions() -> dict[str, str]:
    found = {"joint_st's sources": sources(), "Python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def sources() -> str:
    """Return a fingerprint of the package's files."""
    root, digest = Path(joint_st.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]

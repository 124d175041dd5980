"""Where files lie: on a disk of this machine, or in a bucket of Google Cloud Storage (`gs://bucket/folder`).

A path on a disk is a `pathlib.Path`, one in a bucket an `etils.epath.Path`, which reads and writes through gcsfs. What
differs between the two is here. In a bucket a file is there whole or not at all, but can neither grow nor be renamed,
and folders are only the beginnings of names.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from joint_st.errors import UserError

SCHEME = "gs://"


def path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a person wrote; another path is returned as it is.

    Raises `UserError` for an address of another kind, and where gcsfs is missing.
    """
    text = os.fspath(text)
    if "://" not in text:
        if text.startswith("gs:"):
            raise UserError(f"{text}: a slash is missing; a place in a bucket is written gs://BUCKET/FOLDER")
        return Path(text)
    if not text.startswith(SCHEME) or len(text.removeprefix(SCHEME).strip("/").split("/")) < 2:
        raise UserError(f"{text}: give a path on a disk, or gs://BUCKET/FOLDER")
    return _epath()(text)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is in a bucket."""
    return os.fspath(path).startswith(SCHEME)


@functools.cache
def _epath() -> type:
    """Return the class of paths in buckets, which is set up once."""
    if not importlib.util.find_spec("gcsfs"):
        raise UserError("gs:// paths need: pip install 'joint_st[gcs]'")
    os.environ.setdefault("EPATH_USE_TF", "false")  # otherwise it takes TensorFlow's way, where that is installed
    for name in ("gcsfs", "fsspec"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they report is also raised as an exception
    import fsspec.config
    from etils import epath

    # Others write into the bucket too: TensorStore in this process, and processes on other hosts.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    return epath.Path


def _filesystem():
    import fsspec

    return fsspec.filesystem("gcs")


def check_access(path: Path) -> None:
    """Raise `UserError` where a path is in a bucket that does not exist or that this user may not read."""
    if not is_remote(path):
        return
    bucket, _, folder = str(path).removeprefix(SCHEME).partition("/")
    with as_user_error(path):
        _filesystem().call("GET", "b/{}/o", bucket, prefix=folder, maxResults=1, json_out=True)


@contextlib.contextmanager
def as_user_error(path: Path) -> Iterator[None]:
    """Turn a bucket's refusal to list, read or write into a `UserError`; a disk's errors are left as they are; a
    context."""
    if not is_remote(path):
        yield
        return
    try:
        yield
    except (UserError, NotImplementedError):
        raise
    except Exception as error:
        why = _why(error, str(path))
        if not why:
            raise
        raise UserError(f"{path}: {why}") from error


def _why(error: Exception, path: str) -> str:
    """Return a service's refusal in one line; empty for an error of another kind."""
    told = " ".join(str(error).split())
    # Orbax uses Google's own client, and TensorStore is C++: their refusals are recognised by their messages.
    if "PERMISSION_DENIED" in told or "UNAUTHENTICATED" in told:
        return f"not allowed ({told[:300]}); {_RIGHTS}"
    kind, status = type(error).__module__.partition(".")[0], getattr(error, "code", None)
    if "Project was not passed" in told:
        return "Google's client wants a project: set GOOGLE_CLOUD_PROJECT to the name of one"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket; create it with `gcloud storage buckets create gs://{path.split('/')[2]}`"
    if status == 401 or kind == "google" and "credentials" in told.lower():
        return f"no credentials for it ({told}); on a machine of one's own: `gcloud auth application-default login`"
    if status == 403 or isinstance(error, OSError) and told.startswith("Forbidden: "):
        return f"not allowed ({told.removeprefix('Forbidden: ').partition(' ')[2] or told}); {_RIGHTS}"
    if kind in ("gcsfs", "google", "aiohttp", "requests"):
        return f"the bucket does not answer as it should: {type(error).__name__}: {told[:300]}"
    return ""


_RIGHTS = (
    "give the account, or the machine's service account, the roles roles/storage.objectUser and "
    "roles/storage.legacyBucketReader on the bucket"
)


def why_no_file(path: str | os.PathLike[str]) -> str:
    """Return in a few words why a path on a disk cannot be read as a file; empty where it can."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file"
    except NotADirectoryError:
        return "no such file: what its path names as a folder is a file"
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        return f"no such file ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(mode):
        return "a folder, and no file"
    if not stat.S_ISREG(mode):
        return "no ordinary file but a pipe or a device"
    return ""


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be printed: bytes of its name that are not UTF-8 become `\\xe9` and the like."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return printable_text(os.fspath(path))


def printable_text(text: str) -> str:
    """Text that can be printed: halves of surrogate pairs, as JSON may hold them, become `\\ud83d` and the like."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def draft_of(path: Path) -> Path:
    """Return the place next to a file in which this process writes it, before it is moved to its own; processes of other
    hosts, whose disks are shared, have others."""
    host = hashlib.sha256(os.fsencode(socket.gethostname())).hexdigest()[:6]
    return path.with_name(f".{host}.{os.getpid()}.{path.name}")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file, in a folder that is made; a reader sees the old file or the whole new one.

    Text is written in UTF-8. Half a surrogate pair, which UTF-8 cannot hold, is written as JSON escapes it.
    """
    data = _encoded(content)
    if is_remote(path):
        with as_user_error(path):
            path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        # A link of that name, as in another person's copy of a run, is not followed to what it leads to.
        draft.unlink(missing_ok=True)
        with open(draft, "xb") as file:
            file.write(data)
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_output(path: Path, content: str | bytes) -> None:
    """Write a file that a user names: into the pipe or device of that name, if it is one, or where a link leads.

    In a run, which may come from anyone, `write_whole` follows no link. Raises `UserError` where a pipe or device
    refuses.
    """
    try:
        status = None if is_remote(path) else os.stat(path)
    except FileNotFoundError:
        status = None
    if status:
        # What is standard output too is not opened again: the position in it is shared.
        shared = [number for number in (1, 2) if os.path.samestat(status, os.fstat(number))]
        if shared or not stat.S_ISREG(status.st_mode):
            try:
                sys.stdout.flush()
                with open(os.dup(shared[0]) if shared else path, "wb") as file:
                    file.write(_encoded(content))
            except OSError as error:
                raise UserError(_told(path, error)) from error
            return
    write_whole(Path(os.path.realpath(path)) if os.path.islink(path) else path, content)


def _encoded(content: str | bytes) -> bytes:
    return content.encode(errors="backslashreplace") if isinstance(content, str) else content


def bounded(name: str) -> str:
    """Return a name of at most `MOST_BYTES` bytes: a longer one is cut off, and gets a hash of the whole name at its
    end."""
    data = os.fsencode(name)
    if len(data) <= MOST_BYTES:
        return name
    return f"{data[: MOST_BYTES - 17].decode(errors='ignore')}_{hashlib.sha256(data).hexdigest()[:16]}"


MOST_BYTES = 180
"""Most bytes of a name that is composed of others: file systems take 255, and endings and the marks of drafts are
added."""


def keep(write: Callable[[Path], None], path: Path) -> str:
    """Call `write(path)` for a file that must not be lost; return in one line what went wrong, empty if nothing did.

    If it cannot be written there, it is written into the folder for temporary files.
    """
    try:
        write(path)
        return ""
    except (OSError, UserError) as error:
        problem = _told(path, error)
    try:
        there = Path(tempfile.mkdtemp(prefix="joint_st_")) / path.name
        write(there)
        return f"{problem}; it was written to {there}"
    except OSError as error:
        return f"{problem}; nor could it be written to {tempfile.gettempdir()}: {error.strerror}"


def _told(path: Path, error: OSError | UserError) -> str:
    return str(error) if isinstance(error, UserError) else f"{path}: could not be written: {error.strerror or error}"


def remove_file(path: Path) -> None:
    """Remove a file that is no longer true, if it is there and may be removed."""
    with contextlib.suppress(OSError, UserError), as_user_error(path):
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Removes a folder with all that is in it, where there is one."""
    if is_remote(folder):
        folder.rmtree(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def modified(path: Path) -> float:
    """Return when a file or the entries of a folder last changed, in seconds since the epoch; 0 where there is none.

    In a bucket, when any file in the folder was last written.
    """
    if is_remote(path):
        files = _filesystem().find(str(path), detail=True).values()
        return max((file["mtime"].timestamp() for file in files), default=0.0)
    return path.stat().st_mtime if path.exists() else 0.0


def version(path: Path) -> str:
    """Return a text that changes whenever a file does: its size and modification time, or its generation in a
    bucket."""
    if is_remote(path):
        with as_user_error(path):
            return str(_filesystem().info(str(path))["generation"])
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


class Checksum(NamedTuple):
    """Size and hash of a file, which show whether it still is what was written.

    The hash is MD5, which buckets keep for their objects. Their other checksum, CRC32C, is useless here: a manifest of
    OCDBT ends with its own CRC32C, so that all manifests of one size have the same.
    """

    size: int
    """Bytes."""
    md5: str
    """In hexadecimal."""


def checksum(content: bytes) -> str:
    """Return the MD5 of some bytes, in hexadecimal."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def checksums(
    folder: Path, names: Iterable[str] | None = None, leave: Callable[[str], bool] = lambda name: False
) -> Iterator[tuple[str, Checksum]]:
    """Yield the checksum of each file below a folder, or of the given names that exist, with its path in the folder.

    A bucket stores checksums, and a listing contains them; on a disk the files are read. leave: whether to leave a path
    out.
    """
    wanted = None if names is None else set(names)
    if is_remote(folder):
        with as_user_error(folder):
            for path, info in _filesystem().find(str(folder), detail=True).items():
                name = path[len(str(folder).removeprefix(SCHEME).rstrip("/")) + 1 :]
                if (wanted is None or name in wanted) and not leave(name):
                    own = info.get("md5Hash")  # missing where the object was composed of parts
                    own = base64.b64decode(own).hex() if own else _read_checksum(folder / name).md5
                    yield name, Checksum(int(info["size"]), own)
        return
    if wanted is None:
        wanted = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    there = [name for name in sorted(wanted) if not leave(name) and (folder / name).is_file()]
    with ThreadPoolExecutor(
        _READERS, thread_name_prefix="checksums"
    ) as readers:  # hashing releases the interpreter lock
        yield from zip(there, readers.map(lambda name: _read_checksum(folder / name), there), strict=True)


def _read_checksum(file: Path) -> Checksum:
    size, digest = 0, hashlib.md5(usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            size += len(block)
            digest.update(block)
    return Checksum(size, digest.hexdigest())


_BLOCK = 2**22
"""Bytes of a file that are read at once."""

_READERS = 4
"""Files that are read at once."""


class Generation(NamedTuple):
    """The content of a file in a bucket, and which version of it this is."""

    content: bytes
    generation: int
    """Number that changes with every write."""
    age: float
    """Seconds since it was written, by the clock of the service."""


def read_generation(path: Path) -> Generation | None:
    """Read a file in a bucket; None where there is none, or where it is being written."""
    try:
        headers, resource = _call("GET", path)
        resource = json.loads(resource)
        content = _call("GET", path, alt="media", generation=resource["generation"])[1]
    except FileNotFoundError:
        return None
    now, then = parsedate_to_datetime(headers["Date"]), datetime.datetime.fromisoformat(resource["updated"])
    return Generation(content, int(resource["generation"]), (now - then).total_seconds())


def replace_generation(path: Path, content: bytes, generation: int) -> int:
    """Replace a file in a bucket if it still has this generation (0: no file); return the new generation, 0 where it
    has another."""
    try:
        written = _call("POST", path, data=content, uploadType="media", ifGenerationMatch=generation)[1]
    except FileNotFoundError:
        return 0
    return int(json.loads(written)["generation"]) if written else 0


def remove_generation(path: Path, generation: int) -> None:
    """Remove a file in a bucket if it still has this generation."""
    with contextlib.suppress(FileNotFoundError):
        _call("DELETE", path, ifGenerationMatch=generation)


def _call(method: str, path: Path, data: bytes | None = None, **query) -> tuple[Mapping[str, str], bytes]:
    """Return headers and body of the answer to a request for a file in a bucket; both are empty where its generation is
    another.

    Raises `FileNotFoundError` where there is no such file.
    """
    bucket, _, name = str(path).removeprefix(SCHEME).partition("/")
    system, place = _filesystem(), "b/{}/o/{}"
    arguments = [bucket, name]
    if method == "POST":
        place = system.base.replace("/storage/v1/", "/upload/storage/v1/") + "b/{}/o"
        arguments, query = [bucket], query | {"name": name}
    try:
        with as_user_error(path):
            return system.call(method, place, *arguments, data=data, **query)
    except FileExistsError:  # gcsfs raises this where the condition does not hold
        return {}, b""
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise FileNotFoundError(path) from error
        raise


@contextlib.contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """Make an empty folder on a disk, whose content `move_into_place` moves once it is complete; a context. A folder on
    a disk is used itself."""
    if is_remote(folder):
        with tempfile.TemporaryDirectory(prefix="joint_st_") as draft:
            yield Path(draft)
        return
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    folder.rmdir()


def move_into_place(draft: Path, place: Path, last: str = "") -> None:
    """Moves a file, or a folder of files, from a disk to its place. A file named `last` comes after all others."""
    if is_remote(place):
        if draft.is_file():
            write_whole(place, draft.read_bytes())
            return
        for file in sorted(draft.iterdir(), key=lambda file: (file.name == last, file.name)):
            write_whole(place / file.name, file.read_bytes())
    elif draft.is_file():
        draft.replace(place)
    else:
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)


class Growing(Protocol):
    """A text file that grows."""

    def write(self, text: str) -> None:
        """Add whole lines of text."""

    def flush(self) -> None:
        """Return when everything that was written is in the file."""

    def close(self) -> None:
        """Flush and close the file."""


def append_file(path: Path, text: str) -> Growing:
    """Open the file `path` for appending, after replacing its content by `text`; line ends are kept."""
    if is_remote(path):
        return _GrowingObject(path, text)
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)  # which may be a link
    with open(partial, "x", newline="") as file:
        file.write(text)
    os.replace(partial, path)
    return open(path, "a", newline="", buffering=1)


class _GrowingObject:
    """A growing file in a bucket: a thread stores the whole text again after each write; what fails is tried again at
    `flush`."""

    def __init__(self, path: Path, text: str):
        self._path, self._text, self._stored = path, text, -1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._pending: Future | None = None
        self._store(len(text))

    def write(self, text: str) -> None:
        self._text += text
        self._pending = self._thread.submit(self._store, len(self._text))

    def _store(self, length: int) -> None:
        if self._stored < length:  # otherwise a later write has stored it already
            text = self._text
            write_whole(self._path, text)
            self._stored = len(text)

    def flush(self) -> None:
        if self._pending:
            with contextlib.suppress(Exception):
                self._pending.result()
            self._store(len(self._text))

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._thread.shutdown()

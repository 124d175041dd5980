"""Lets one training at a time work in the directory of a run, by a lock on a disk or a lease in a bucket.

The system releases a lock when its process ends for whatever reason. A lease is a file that its holder rewrites every
few seconds. Another process takes it over if it was not rewritten for longer, by the bucket's own clock, or at once if
the holder was a process of this machine that has ended. A preempted job therefore never finds its run held by itself.
With several processes, process 0 holds it for all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import functools
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from joint_st import storage
from joint_st.distributed.peers import current
from joint_st.errors import UserError, printable

NAME = ".lock"
"""File in the directory of a run."""

WAIT_SECONDS = 5.0
"""Time to wait for a lock on a disk, because a process that was killed may take a while to end."""

BEAT_SECONDS = 10.0
"""Seconds between two renewals of a lease."""

SILENT_SECONDS = 30.0
"""Seconds without renewal after which a lease is free."""

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of a file system without locks."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """The holder of a run, as its file states it."""

    host: str
    process: int
    since: str
    """Date and time."""
    place: str = ""
    """The boot of the process's machine, and its namespace of processes."""
    began: str = ""
    """Start time of the process in the system's units, since a later process may get the same number."""
    token: str = ""

    @classmethod
    def this(cls) -> Holder:
        """This process."""
        return cls(
            socket.gethostname(),
            os.getpid(),
            time.strftime("%Y-%m-%d %H:%M:%S"),
            _place(),
            _began(os.getpid()),
            secrets.token_hex(8),
        )

    @classmethod
    def read(cls, content: bytes) -> Holder | None:
        """Read the holder from a file; None where it is empty or damaged."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def content(self) -> bytes:
        """Return the content of the file that names it."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def __str__(self) -> str:
        return printable(f"process {self.process} on {self.host}, since {self.since}")

    def is_gone(self) -> bool:
        """Return whether it is known to have ended, which can be told for a process of this machine."""
        return bool(self.place) and self.place == _place() and self.began != _began(self.process)


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(process: int) -> str:
    """Return when a process of this machine began; empty where there is none, or where it is a zombie."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


class Hold(Protocol):
    """The right to train in a run's directory."""

    def check(self) -> None:
        """Raise `UserError` where another process has taken it."""

    def release(self) -> None:
        """Release it."""


def one_at_a_time(train: Callable) -> Callable:
    """Make a training, `train(config, workdir, ...)`, hold its run from its beginning to its end; a decorator."""

    @functools.wraps(train)
    def held(config, workdir: Path, *more) -> None:
        with holding(storage.path(workdir)):
            train(config, workdir, *more)

    return held


_held: dict[str, Hold] = {}


@contextlib.contextmanager
def holding(root: Path) -> Iterator[None]:
    """Hold the run in `root`, a folder that is created, by this process or by process 0 of its job; a context.

    Raises `UserError` that names another holder.
    """
    if not current().is_first:
        yield
        return
    storage.check_access(root)
    hold = Lease(root) if storage.is_remote(root) else Lock(root)
    _held[str(root)] = hold
    try:
        yield
    finally:
        del _held[str(root)]
        hold.release()


def check_held(root: Path) -> None:
    """Raise `UserError` where this process held the run in `root` and another one has taken it."""
    if hold := _held.get(str(root)):
        hold.check()


def _refusal(root: Path, holder: Holder | None) -> UserError:
    return UserError(
        f"{root}: another training works in it ({holder or 'it has not said which'}); wait for it, end it, or name "
        "another --workdir"
    )


class Lock:
    """The lock of a file, which the system releases when this process ends."""

    def __init__(self, root: Path):
        if root.exists() and not root.is_dir():
            raise UserError(f"{root}: a file, where the directory of a run should be; name another --workdir")
        self._root, self._made = root, not root.exists()
        self._holder = Holder.this()
        self._descriptor = self._open()
        until = time.monotonic() + WAIT_SECONDS
        while not self._taken(root):
            if time.monotonic() > until:
                holder = Holder.read(os.pread(self._descriptor, 4096, 0))
                os.close(self._descriptor)
                raise _refusal(root, holder)
            time.sleep(0.1)
        self._folder = os.stat(root)
        with contextlib.suppress(OSError):  # on a full disk the file does not say who holds the lock
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._holder.content(), 0)

    def _open(self) -> int:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            return os.open(self._root / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"{self._root}: cannot be written: {error.strerror}; name another --workdir") from error

    def _taken(self, root: Path) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"{root}: its file system has no locks; start no second training in it", file=sys.stderr)
        if self._is_in_place():
            return True
        # The former holder has removed the file and the empty directory that it had made.
        os.close(self._descriptor)
        self._descriptor = self._open()
        return False

    def _is_in_place(self) -> bool:
        """Return whether the file that this process has opened is the one in the directory, or names the same holder: some
        file systems, such as mounted buckets, give a file another number in time."""
        file = self._root / NAME
        try:
            return os.path.samestat(os.stat(file), os.fstat(self._descriptor)) or (
                Holder.read(file.read_bytes()) == self._holder
            )
        except (FileNotFoundError, NotADirectoryError):
            return False

    def check(self) -> None:
        """Raise `UserError` where the directory was moved or removed, so that its name may now be that of another run,
        or where its file was removed and another process has locked a new one."""
        if self._is_in_place():
            return
        nothing_more = "this training, which worked in it, saves nothing more"
        try:
            moved = not os.path.samestat(os.stat(self._root), self._folder)
        except (FileNotFoundError, NotADirectoryError):
            moved = True
        if moved:
            raise UserError(
                f"{self._root}: was moved or removed; {nothing_more}; go on from its last checkpoint, with --workdir as "
                "where it is now"
            )
        file = self._root / NAME
        if not file.exists():
            retaken = Lock(self._root)
            os.close(self._descriptor)
            self._descriptor = retaken._descriptor
            return
        holder = Holder.read(file.read_bytes()) or "another training"
        raise UserError(f"{self._root}: its {NAME} was removed, and {holder} has worked in it since; {nothing_more}")

    def release(self) -> None:
        """Release it. The file stays, unless this process has made the directory and nothing else is in it."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            if self._made and self._is_in_place() and os.listdir(self._root) == [NAME]:
                os.remove(self._root / NAME)
                self._root.rmdir()
        os.close(self._descriptor)


class Lease:
    """A file in a bucket that a thread of this process rewrites regularly as long as the process lives."""

    def __init__(self, root: Path):
        self._root = root
        self._path = root / NAME
        self._holder = Holder.this()
        self._write = threading.Lock()
        self._lost: Holder | None = None
        self._generation = self._acquire()
        self._beaten = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._beat_on, name="lease", daemon=True).start()

    def _acquire(self) -> int:
        """Acquire the lease, and return the generation of its file."""
        seen, told = 0, False
        while True:
            if generation := storage.replace_generation(self._path, self._holder.content(), 0):
                return generation
            found = storage.read_generation(self._path)
            if found is None:
                continue
            holder = Holder.read(found.content)
            if holder and holder.token == self._holder.token:  # the answer to our own request was lost
                return found.generation
            if found.age > SILENT_SECONDS or holder and holder.is_gone():
                storage.remove_generation(self._path, found.generation)
                continue
            if seen and found.generation != seen:
                raise _refusal(self._root, holder)
            seen = found.generation
            if not told and found.age > 2 * BEAT_SECONDS:
                told = True
                print(f"{self._root}: waits, because {holder} may still work in it", file=sys.stderr)
            time.sleep(min(1.0, BEAT_SECONDS / 4))

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # a service that does not answer may answer the next request
                self._beat()

    def _beat(self) -> None:
        with self._write:
            if self._ended.is_set() or self._lost:
                return
            generation = storage.replace_generation(self._path, self._holder.content(), self._generation)
            if not generation:
                found = storage.read_generation(self._path)
                holder = found and Holder.read(found.content)
                if not (holder and holder.token == self._holder.token):
                    self._lost = holder or self._holder
                    return
                generation = found.generation
            self._generation, self._beaten = generation, time.monotonic()

    def check(self) -> None:
        """Raise `UserError` where this process did not rewrite the file for so long that another one has taken the
        run."""
        if not self._lost and time.monotonic() - self._beaten > SILENT_SECONDS:
            self._beat()
        if self._lost:
            by = "it is no longer held by this process" if self._lost is self._holder else f"{self._lost} has taken it"
            raise UserError(f"{self._root}: {by}, because this one was silent for a while; this one saves nothing more")

    def release(self) -> None:
        """Remove the file if it still names this process."""
        self._ended.set()
        with self._write, contextlib.suppress(Exception):
            if not self._lost:
                storage.remove_generation(self._path, self._generation)

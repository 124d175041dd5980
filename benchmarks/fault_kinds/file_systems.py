"""File systems that are full, read-only or gone, in a mount namespace of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fault_kinds.damaged_files import with_test_split
from benchmarks.fault_kinds.processes import DIE_WITH_PARENT, Running
from benchmarks.fault_kinds.read_run import digest
from benchmarks.fault_kinds.runs import Disk, corpora, difference, tiny, trained, variables, with_changes
from benchmarks.fault_kinds.trial import Outcome, Trial, fault

ROOMY = "64m"
TIGHT = "96k"
"""Sizes of a file system on which all finds room, and of one on which little does."""


class Namespace:
    """A mount namespace, kept by a process that sleeps in it; its mounts are invisible elsewhere."""

    def __init__(self, trial: Trial, name: str):
        self._trial = trial
        self.disk = trial.work / name
        """Where its file system lies, for processes inside."""
        self.disk.mkdir()
        command = [*DIE_WITH_PARENT, "unshare", "-m", "--propagation", "private", "sleep", "3600"]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def seen(self) -> Path:
        """The same place, for this process."""
        return Path(f"/proc/{self._holder.pid}/root{self.disk}")

    @property
    def inside(self) -> tuple[str, ...]:
        """The arguments that start a command in the namespace."""
        return ("nsenter", "-t", str(self._holder.pid), "-m")

    def call(self, *command: object) -> None:
        """Runs a command in the namespace."""
        subprocess.run([*self.inside, *map(str, command)], check=True, capture_output=True)

    def tmpfs(self, size: str) -> None:
        """Mounts a file system of this size."""
        self.call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.disk)

    def full(self) -> None:
        """Leaves no byte of room."""
        with contextlib.suppress(OSError), open(self.seen / "filler", "wb", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def roomy(self) -> None:
        """Undoes `full`."""
        self.call("mount", "-o", f"remount,rw,size={ROOMY}", self.disk)
        (self.seen / "filler").unlink(missing_ok=True)

    def read_only(self) -> None:
        """Lets nothing be written any more."""
        self.call("mount", "--bind", self.disk, self.disk)
        self.call("mount", "-o", "remount,bind,ro", self.disk)

    def writable(self) -> None:
        """Undoes `read_only`."""
        self.call("umount", "-l", self.disk)

    def gone(self) -> None:
        """Unmount the file system, which leaves an empty folder."""
        self.call("umount", "-l", self.disk)

    def run(self, *arguments: object, **changes: str) -> Running:
        """`joint-st` in the namespace."""
        env = variables(self._trial, **changes)
        return Running(*arguments, logs=self._trial.work / "logs", env=env, before=self.inside)

    def copy(self, name: str) -> Path:
        """Return a folder of the file system, copied to where other processes see it under one name."""
        place = self._trial.work / "copy" / name
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(self.seen / name, place)

    def close(self) -> None:
        """Ends the namespace."""
        self._holder.kill()
        self._holder.wait()


@contextlib.contextmanager
def namespace(trial: Trial, name: str, size: str = ROOMY) -> Iterator[Namespace]:
    """A namespace with a new file system; skips the fault where it may not be made."""
    if not all(map(shutil.which, ("unshare", "nsenter", "mount"))):
        trial.skip("unshare, nsenter or mount is not there")
    found = Namespace(trial, name)
    try:
        try:
            for _ in range(50):
                if found.seen.exists() and namespace_of(found) != namespace_of(None):
                    break
                subprocess.run(["sleep", "0.05"], check=True)
            found.tmpfs(size)
        except (subprocess.CalledProcessError, OSError) as error:
            trial.skip(f"a file system cannot be mounted in a namespace of one's own here ({error})")
        yield found
    finally:
        found.close()


def namespace_of(one: Namespace | None) -> str:
    """Return the identity of a mount namespace; of this process's where there is none."""
    return str(Path(f"/proc/{one._holder.pid if one else 'self'}/ns/mnt").readlink())


BREAK: dict[str, Callable[[Namespace], None]] = {
    "full": Namespace.full,
    "read-only": Namespace.read_only,
    "gone": Namespace.gone,
}
HEAL: dict[str, Callable[[Namespace], None]] = {"full": Namespace.roomy, "read-only": Namespace.writable}


@fault("training on a file system that is full, read-only or gone", ci=True)
def training(trial: Trial) -> None:
    """The fault comes at the start or after some steps; if it can be repaired, the same command then continues to the
    same result."""
    trained(trial)
    for how in BREAK if trial.whole else ("full",):
        for moment in ("at the start", "later") if trial.whole else ("later",):
            with namespace(trial, f"{how}_{moment}".replace(" ", "_")) as there:
                place, run = Disk(there.seen / "run"), there.disk / "run"
                if moment == "at the start":
                    BREAK[how](there)
                one = there.run("train", tiny(trial), "--workdir", run)
                if moment == "later":
                    one.when(place.steps)
                    BREAK[how](there)
                ended = one.end()
                outcome, told = ended.judge(), ended.told
                if how == "gone" and moment == "at the start":
                    # It is a folder as any other.
                    if outcome is Outcome.SURVIVED and difference(there.copy("run"), trained(trial)):
                        outcome = Outcome.SILENT
                elif outcome is Outcome.SURVIVED and how != "gone":
                    outcome = Outcome.SILENT  # nothing of it can have been saved
                if outcome is Outcome.REFUSED and how in HEAL:
                    outcome, told = after_healing(trial, there, how, run, told)
                trial.count(outcome, f"{how} {moment}", told, trial.work / "logs")


def after_healing(trial: Trial, there: Namespace, how: str, run: Path, told: str) -> tuple[Outcome, str]:
    """Run the same command again, now that the file system works."""
    HEAL[how](there)
    ended = there.run("train", tiny(trial), "--workdir", run).end()
    if ended.status:
        return Outcome.LOST, f"not even afterwards: {ended.told}"
    differs = difference(there.copy("run"), trained(trial))
    return (Outcome.SILENT, differs) if differs else (Outcome.REFUSED, told)


@fault("evaluating a run on a file system that is full or read-only", ci=True)
def evaluating(trial: Trial) -> None:
    """Hypotheses cannot be written into the run's directory: files requested elsewhere, and the table, still are."""
    run = with_test_split(trial)
    table, lines = trial.work / "table.json", trial.work / "lines.jsonl"
    files = ("--json", table, "--jsonl", lines)
    copy = trial.work / "good"
    shutil.copytree(run, copy)
    expected = Running("evaluate", copy, *files, logs=trial.work / "logs", env=variables(trial)).end()
    if expected.status:
        raise RuntimeError(f"the run cannot be evaluated on a good disk: {expected.told}")
    wanted = written(table, lines)
    for how in ("full", "read-only") if trial.whole else ("full",):
        with namespace(trial, how.replace("-", "_")) as there:
            shutil.copytree(run, there.seen / "run")
            BREAK[how](there)
            ended = there.run("evaluate", there.disk / "run", *files).end()
            outcome = ended.judge()
            if outcome in (Outcome.REFUSED, Outcome.SURVIVED) and (
                written(table, lines) != wanted or "full_context" not in ended.out
            ):
                outcome = Outcome.LOST
            trial.count(outcome, f"{how}, the run", ended.told, trial.work / "logs")
            # The other way round: the run is on a good disk, and the files asked for are not.
            ended = there.run("evaluate", copy, "--jsonl", there.disk / "lines.jsonl").end()
            outcome = ended.judge()
            if outcome is Outcome.SURVIVED:
                outcome = Outcome.SILENT
            if outcome is Outcome.REFUSED and "full_context" not in ended.out:
                outcome = Outcome.LOST
            trial.count(outcome, f"{how}, the file of --jsonl", ended.told, trial.work / "logs")


def written(table: Path, lines: Path) -> list[str]:
    """Return digests of the files of an evaluation, without times, and remove the files."""
    rows = json.loads(table.read_text()) if table.exists() else []
    kept = [{key: value for key, value in row.items() if key != "real_time_factor"} for row in rows]
    found = [digest(json.dumps(kept).encode()), digest(lines.read_bytes() if lines.exists() else b"")]
    for file in (table, lines):
        file.unlink(missing_ok=True)
    return found


@fault("an index cache on a file system that is full, read-only or gone", ci=True)
def index_cache(trial: Trial) -> None:
    """Its content can be computed again, so training continues without it."""
    trained(trial)
    for how in ("full", "read-only") if trial.whole else ("full",):
        with namespace(trial, how.replace("-", "_")) as there:
            cache = there.disk / "index"
            BREAK[how](there)
            run = trial.work / f"run_{how}"
            config = with_changes(tiny(trial), trial.work / f"{how}.json", {"data.index_cache": str(cache)})
            ended = there.run("train", config, "--workdir", run).end()
            outcome, told = ended.judge(), ended.told
            if outcome is Outcome.SURVIVED:
                shutil.copyfile(trained(trial) / "config.json", run / "config.json")
                if told := difference(run, trained(trial)):
                    outcome = Outcome.SILENT
            trial.count(outcome, how, told, trial.work / "logs")


@fault("building a corpus on a file system that is full or read-only", ci=True)
def building(trial: Trial) -> None:
    """The command is refused in one line; once there is room, the complete corpus is built."""
    for how in ("full", "read-only") if trial.whole else ("full",):
        with namespace(trial, how.replace("-", "_"), TIGHT if how == "full" else ROOMY) as there:
            folder = there.disk / "corpora"
            if how == "read-only":
                BREAK[how](there)
            command = ("data", "build", "spoken_grammar/tiny", "--data-dir", folder)
            outcome, told = refused_then_done(there, how, command)
            if outcome is Outcome.REFUSED and not same_corpus(trial, there.copy("corpora")):
                outcome = Outcome.SILENT
            trial.count(outcome, how, told, trial.work / "logs")


def same_corpus(trial: Trial, folder: Path) -> bool:
    """Return whether a corpus has the utterances of one that was built on a good disk."""
    from joint_st.data.corpora import spoken_grammar

    one, good = (spoken_grammar.build(str(place), "tiny", progress=False) for place in (folder, corpora(trial)))
    return all(
        [(x["id"], x["audio"].tobytes()) for x in one.as_data_source(split)]
        == [(x["id"], x["audio"].tobytes()) for x in good.as_data_source(split)]
        for split in ("train", "dev", "test", "text")
    )


def refused_then_done(there: Namespace, how: str, command: tuple) -> tuple[Outcome, str]:
    """Check that a command that cannot work is refused, and works once it can."""
    ended = there.run(*command).end()
    outcome, told = ended.judge(), ended.told
    if outcome is Outcome.SURVIVED:
        return Outcome.SILENT, "the file system was too large to be full"
    if outcome is Outcome.REFUSED:
        HEAL[how](there)
        again = there.run(*command).end()
        if again.status:
            return Outcome.LOST, f"not even afterwards: {again.told}"
    return outcome, told

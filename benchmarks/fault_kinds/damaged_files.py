"""Every file of a run damaged in turn, and the run read by `evaluate` and `transcribe`: the same result, or a line."""

from __future__ import annotations

import json
import random
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fault_kinds.processes import Ended
from benchmarks.fault_kinds.runs import Disk, tiny, trained, variables, with_changes
from benchmarks.fault_kinds.trial import Outcome, Trial, fault
from tests.tiny import CHECKOUT

READ_SECONDS = 120
"""Time limit for a run to be read."""


def deleted(file: Path, _chance: random.Random) -> None:
    """The file is not there."""
    file.unlink()


def emptied(file: Path, _chance: random.Random) -> None:
    """The file has no bytes."""
    file.write_bytes(b"")


def cut_in_half(file: Path, _chance: random.Random) -> None:
    """The second half is missing."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def last_byte_off(file: Path, _chance: random.Random) -> None:
    """The last byte is missing."""
    file.write_bytes(file.read_bytes()[:-1])


def randomised(file: Path, chance: random.Random) -> None:
    """All bytes are random."""
    file.write_bytes(chance.randbytes(file.stat().st_size))


def zeroed(file: Path, _chance: random.Random) -> None:
    """All bytes are zero, as on some file systems after a power cut."""
    file.write_bytes(bytes(file.stat().st_size))


def one_bit_flipped(file: Path, chance: random.Random) -> None:
    """One bit is flipped."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


DAMAGES = (deleted, emptied, cut_in_half, last_byte_off, randomised, zeroed, one_bit_flipped)


def swapped(file: Path, other: Path) -> Callable[[Path, random.Random], None]:
    """Return a damage that puts the file of another step in its place; `file` and `other` are relative to the run."""

    def swap(damaged: Path, _chance: random.Random) -> None:
        root = Path(str(damaged).removesuffix(str(file)))
        shutil.copyfile(root / other, damaged)

    return swap


class Reader:
    """The process that reads runs; another one is started where one crashes or hangs."""

    def __init__(self, trial: Trial):
        self._trial = trial
        self._err = trial.work / "reader.err"
        self._process: subprocess.Popen | None = None

    def read(self, run: Path, commands: list[list[str]], files: list[Path]) -> tuple[Ended, dict]:
        """Return how the commands end on a run, and the digests of what they make of it."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        assert process and process.stdin and process.stdout
        seen = self._err.stat().st_size
        question = {"run": str(run), "commands": commands, "files": list(map(str, files))}
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], READ_SECONDS)
        line = process.stdout.readline() if ready else ""
        err = self._err.read_bytes()[seen:].decode(errors="replace")
        if not line:
            process.kill()
            status = process.wait()
            return Ended(status if ready else None, "", err, 0.0), {}
        answer = json.loads(line)
        return Ended(answer["status"], "", answer["told"] + err, 0.0), answer["result"]

    def _start(self) -> None:
        with open(self._err, "ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fault_kinds.read_run"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                cwd=CHECKOUT,
                env=variables(self._trial),
                start_new_session=True,
            )

    def close(self) -> None:
        """End the process."""
        if self._process:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait(30)


def cases(run: Path, whole: bool) -> Iterator[tuple[str, Path, Callable]]:
    """Yield name, file (relative to the run) and damage of each case."""
    latest, *others = sorted(Disk(run).steps(), reverse=True)
    for file in sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file()):
        if file.parts[0] in ("evaluations", "metrics.csv", "analysis"):
            continue  # what nobody reads who evaluates
        for damage in DAMAGES:
            if damage in (deleted, emptied) or (run / file).stat().st_size:
                yield f"{file} {damage.__name__}", file, damage
        if file.parts[:2] == ("checkpoints", str(latest)):
            for step in others if whole else others[:1]:
                other = Path("checkpoints", str(step), *file.parts[2:])
                if (run / other).is_file() and (run / other).read_bytes() != (run / file).read_bytes():
                    yield f"{file} swapped with step {step}", file, swapped(file, other)


@fault("a file of a run is damaged", ci=True)
def damaged_file(trial: Trial) -> None:
    """Each file of a run, in each way: read by `evaluate` or `transcribe`, in turn."""
    run, damaged = with_test_split(trial), trial.work / "run"
    wav = trial.work / "one.wav"
    write_wav(wav)
    table, lines = trial.work / "table.json", trial.work / "lines.jsonl"
    evaluate = ["evaluate", "RUN", "--checkpoint", "best", "--json", str(table), "--jsonl", str(lines)]
    transcribe = ["transcribe", "RUN", str(wav), "--checkpoint", "latest"]
    ways = [("evaluate", [evaluate], [table, lines]), ("transcribe", [transcribe], [])]
    reader, expected = Reader(trial), {}
    every = list(cases(run, trial.whole))
    if not trial.whole:
        every = trial.chance.sample(every, min(len(every), 25))
    try:
        for name, commands, files in ways:
            ended, expected[name] = reader.read(run, commands, files)
            if ended.status:
                raise RuntimeError(f"the run cannot be read undamaged: {ended.told}")
        for number, (case, file, damage) in enumerate(every):
            # In turn, so that each file meets both in half of the time.
            name, commands, files = ways[number % 2]
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(run, damaged)
            damage(damaged / file, trial.chance)
            ended, result = reader.read(damaged, commands, files)
            outcome = ended.judge()
            if outcome == Outcome.SURVIVED and result != expected[name]:
                differing = [key for key in expected[name] if result.get(key) != expected[name][key]]
                outcome, ended = Outcome.SILENT, ended._replace(err=f"other {', '.join(differing)}")
            trial.count(outcome, f"{case}, {name}", ended.told, damaged / file)
            if number % 50 == 49:
                trial.progress(f"{number + 1} of {len(every)}")
    finally:
        reader.close()


def with_test_split(trial: Trial) -> Path:
    """Return the tiny run, with a test split of few utterances."""

    def make(folder: Path) -> None:
        shutil.copytree(trained(trial), folder)
        config = folder / "config.json"
        source = json.loads(tiny(trial).read_text())["data"]["dev"][0]
        with_changes(config, config, {"data.test": {"test": source}})

    return trial.made("run_with_test", make)


def write_wav(place: Path) -> None:
    """Write a second of noise."""
    import numpy as np
    import soundfile

    soundfile.write(place, np.random.default_rng(0).normal(size=16_000) / 10, 16_000)

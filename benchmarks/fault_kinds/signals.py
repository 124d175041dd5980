"""SIGINT and SIGTERM at any moment, outputs that nobody reads, and environments that lack usual settings."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from benchmarks.fault_kinds.damaged_files import with_test_split, write_wav
from benchmarks.fault_kinds.processes import Running
from benchmarks.fault_kinds.runs import Disk, goes_on, tiny, trained, variables, with_changes
from benchmarks.fault_kinds.trial import Outcome, Trial, fault

END_SECONDS = 60
"""A process that was asked to end is to end in this time."""

MOMENTS: dict[str, Callable[[Running, Disk], object]] = {
    "start": lambda one, place: one.seconds > 0.3,
    "imports": lambda one, place: one.seconds > 1.5,
    "compile": lambda one, place: "devices  " in one.err,
    "steps": lambda one, place: place.steps(),
    "save": lambda one, place: place.steps() and place.saving(),
    "evaluation": lambda one, place: " trained " in one.err.replace("\n", " "),
}
"""When a training is sent a signal."""


@fault("SIGINT and SIGTERM, training", ci=True)
def training(trial: Trial) -> None:
    """A signal comes at each moment; then the same command continues to the same result."""
    config, logs = with_test(trial), trial.work / "logs"
    both = (signal.SIGINT, signal.SIGTERM)
    chosen = {moment: both for moment in MOMENTS} if trial.whole else {"imports": both[:1], "save": both[1:]}
    for moment, numbers in chosen.items():
        for number in numbers:
            place = Disk(trial.work / f"{moment}_{number}")
            start = lambda place=place: [  # noqa: E731
                Running("train", config, "--workdir", place.place, logs=logs, env=variables(trial))
            ]
            (one,) = start()
            one.when(lambda one=one, place=place, moment=moment: MOMENTS[moment](one, place))
            before = place.steps()
            one.send(number)
            ended = one.end(END_SECONDS)
            outcome, told = ended.judge(asked=True), ended.told
            if outcome is Outcome.SURVIVED and before and place.steps()[-1:] < before[-1:]:
                outcome = Outcome.LOST
            if outcome is Outcome.SURVIVED:
                outcome, told = goes_on(trial, place, start, reference(trial))
            trial.count(outcome, f"{signal.Signals(number).name} at {moment}", told, trial.work / "logs")
            place.remove()


@fault("SIGINT and SIGTERM, commands that read")
def reading(trial: Trial) -> None:
    """`evaluate`, `transcribe`, `data inspect`: end soon, without a traceback."""
    run, wav, logs = with_test_split(trial), trial.work / "one.wav", trial.work / "logs"
    write_wav(wav)
    commands = [("evaluate", run), ("transcribe", run, wav), ("data", "inspect", run)]
    for command in commands:
        for number in (signal.SIGINT, signal.SIGTERM):
            for seconds in (0.1, 0.3, 0.8, 2, 4):
                one = Running(*command, logs=logs, env=variables(trial))
                one.pause(seconds)
                one.send(number)
                ended = one.end(END_SECONDS)
                case = f"{command[0]}, {signal.Signals(number).name} after {seconds} s"
                trial.count(ended.judge(asked=True), case, ended.told, trial.work / "logs")


@fault("an output that nobody reads", ci=True)
def closed_outputs(trial: Trial) -> None:
    """`| head`, `>&-`, `2>&-` and a full device for stdout."""
    run, wav, logs = with_test_split(trial), trial.work / "one.wav", trial.work / "logs"
    write_wav(wav)
    commands: list[tuple] = [("transcribe", run, *[wav] * 3)]
    if trial.whole:
        commands += [
            ("evaluate", run),
            ("data", "inspect", run),
            ("--help",),
            ("train", tiny(trial), "--print-config"),
            ("evaluate", run, "--by", "duration"),
        ]
        commands += [("train", tiny(trial), "--workdir", trial.work / "run")]
    for command in commands:
        for how in ("a reader that has left", "closed stdout", "closed stderr", "a full device"):
            options: dict = {}
            before: tuple[str, ...] = ()
            reader = None
            if how == "a reader that has left":
                reader, options["stdout"] = os.pipe()
                os.close(reader)
            elif how == "a full device":
                options["stdout"] = os.open("/dev/full", os.O_WRONLY)
            else:
                closed = ">&-" if how == "closed stdout" else "2>&-"
                before = ("bash", "-c", f'exec "$@" {closed}', "bash")
            one = Running(*command, logs=logs, env=variables(trial), before=before, **options)
            ended = one.end()
            if "stdout" in options:
                os.close(options["stdout"])
            # The shell's own way to say that a reader has left; with stderr closed, nothing can be said.
            fine = ended.status == 141 or how == "closed stderr" and ended.status in (0, 2)
            trial.count(Outcome.SURVIVED if fine else ended.judge(), f"{command[0]}, {how}", ended.told, logs)


@fault("an environment that lacks something", ci=True)
def environments(trial: Trial) -> None:
    """`LC_ALL=C`, no HOME or one that is not there, no TMPDIR or one that is not there: the same result."""
    run, logs = with_test_split(trial), trial.work / "logs"
    wav = trial.work / "größe ✓.wav"
    write_wav(wav)
    config = with_changes(tiny(trial), trial.work / "few.json", {"training.steps": 4})
    lacks: dict[str, dict[str, str | None]] = {
        "LC_ALL=C": {"LC_ALL": "C", "LANG": None},
        "LC_ALL=C without UTF-8 mode": {"LC_ALL": "C", "LANG": None, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        "no HOME": {"HOME": None},
        "HOME that is not there": {"HOME": "/nonexistent/home"},
        "no TMPDIR": {"TMPDIR": None},
        "TMPDIR that is not there": {"TMPDIR": "/nonexistent/tmp"},
        "nothing but PATH": dict.fromkeys(set(os.environ) - {"PATH"}),
    }
    table = trial.work / "table.json"
    commands: list[tuple] = [("transcribe", run, wav, wav)]
    if trial.whole:
        commands += [("evaluate", run, "--json", table), ("data", "inspect", run)]
        commands += [("train", config, "--workdir", trial.work / "run")]
    for command in commands:
        expected = Running(*command, logs=logs, env=variables(trial)).end()
        if expected.status:
            raise RuntimeError(f"{command[0]} fails in a common environment: {expected.told}")
        Disk(trial.work / "run").remove()
        for name, changes in lacks.items() if trial.whole else list(lacks.items())[::2]:
            env = {key: value for key, value in {**variables(trial), **changes}.items() if value is not None}
            ended = Running(*command, logs=logs, env=env).end()
            outcome = ended.judge()
            if outcome is Outcome.SURVIVED and command[0] == "transcribe" and ended.out != expected.out:
                outcome = Outcome.SILENT
            trial.count(outcome, f"{command[0]}, {name}", ended.told, logs)
            Disk(trial.work / "run").remove()


def with_test(trial: Trial) -> Path:
    """Return the config of the tiny run, with a test split, which is evaluated at the end."""

    def make(file: Path) -> None:
        run = with_test_split(trial)
        file.write_bytes((run / "config.json").read_bytes())

    return trial.made("tiny_with_test.json", make)


def reference(trial: Trial) -> Path:
    """Return the run of that config in one go."""

    def make(folder: Path) -> None:

        shutil.copytree(trained(trial), folder)
        shutil.copyfile(with_test(trial), folder / "config.json")

    return trial.made("trained_with_test", make)

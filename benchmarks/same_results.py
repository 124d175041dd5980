"""Checks whether two checkouts compute the same, bit for bit, on this machine.

    python benchmarks/same_results.py OLD NEW
    python benchmarks/same_results.py OLD NEW --only tiny variants/fsdp lm

Every experiment is run with both checkouts, through their own commands, and the results are compared: all numbers of
`metrics.csv`, of the tables and of the utterances, all hypotheses, all text. Only times are left out, by name
(`CLOCKED`). For each experiment a line says how many values are equal, or how many are not and how far apart they are
at most; the exit status is 1 where anything differs. The results of OLD are kept in the work directory under its
commit, and computed once.

    tiny        the run of `.ci/run`: 30 steps on two devices
    quickstart  60 steps of `configs/quickstart.py`: on one device, on two, in two processes
    variants    20 tiny steps with accumulation, fsdp, tensor, wordpieces, masked paired text, durations, each alignment
    lm          the trainer of language models
    decoding    a quickstart that OLD has trained to its end, converted for NEW: greedy, beam with an n-gram,
                streams and windows on 50 utterances, transcription of files, alignment of words, analysis by layer

Experiments are written in the names of today; a checkout that does not have a name is given the old one, as
`joint_st.config.renamed` has it. Run the script in the environment of its own checkout.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from old_names import convert_run, translate_flag

from joint_st.config.renamed import COLUMNS

CLOCKED = {"audio_seconds_per_second", "labels_per_second", "real_time_factor"}
"""Columns that depend on the speed of the machine."""

ALIGNMENTS = ("skip", "step", "dtw", "frame_wise", "soft", "optimal_transport", "given", "random")
UTTERANCES = "spoken_grammar:test[:50]"
CORPUS = "spoken_grammar/tiny"


@dataclasses.dataclass
class Side:
    """One of the two checkouts, and the fields that its configs have."""

    checkout: Path
    work: Path
    """Its results, a folder for each experiment."""
    finished: Path
    """A quickstart that was trained to its end, in the form that this checkout reads."""
    fields: frozenset[str] = frozenset()
    format: int = 1
    """Number of the format of its runs."""

    @property
    def quickstart(self) -> Path:
        """The config that most experiments change."""
        return self.checkout / "configs" / "quickstart.py"

    def flag(self, field: str, value: object) -> list[str]:
        """Return the words that set a field, given by its new name, on the command line of this checkout."""
        field, value = translate_flag(field, value, self.fields)
        return [f"--{field}", str(value)]

    def run(self, folder: Path, *words: object, processes: int = 1) -> str:
        """Return what `joint-st WORDS` of this checkout prints; its log is in the folder. Exits where the command
        fails."""
        command = [sys.executable, "-m", "joint_st", *map(str, words)]
        if processes > 1:
            command = ["bash", str(self.checkout / "launch" / "local.sh"), "-n", str(processes), "--", *command]
        folder.mkdir(parents=True, exist_ok=True)
        environment = {"JAX_PLATFORMS": "cpu", **os.environ, "PYTHONPATH": str(self.checkout)}
        with open(folder / "log.txt", "a") as log:
            print("$", *command, file=log, flush=True)
            # Not in a checkout: Python would look for the package there first.
            done = subprocess.run(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False
            )
        if done.returncode:
            sys.exit(f"{' '.join(command)}\nended with status {done.returncode}; see {folder / 'log.txt'}")
        return done.stdout

    def train(self, folder: Path, changes: dict[str, object], processes: int = 1) -> Iterator[tuple[str, str]]:
        """Train the quickstart with some fields changed, and yield its metrics, tables and utterances."""
        words = [word for field, value in changes.items() for word in self.flag(field, value)]
        run = folder / "run"
        self.run(folder, "train", self.quickstart, "--workdir", run, *words, processes=processes)
        yield from files(run, "metrics.csv", "evaluations/*.json", "evaluations/*.jsonl")


def files(folder: Path, *patterns: str) -> Iterator[tuple[str, str]]:
    """Name and text of the files of some patterns."""
    for pattern in patterns:
        for file in sorted(folder.glob(pattern)):
            yield str(file.relative_to(folder)), file.read_text(encoding="utf-8")


# The experiments: each leaves named texts.

Experiment = Callable[[Side, Path], Iterator[tuple[str, str]]]


def training(changes: dict[str, object], processes: int = 1) -> Experiment:
    return lambda side, folder: side.train(folder, changes, processes)


def tiny(steps: int) -> dict[str, object]:
    """Return the changes that make the quickstart a run of seconds."""
    corpora = ("data.train.0", "data.dev.0", "data.test.test", "data.text.0")
    names: dict[str, object] = {f"{corpus}.name": CORPUS for corpus in corpora}
    model = {"model.width": 16, "model.features.mels": 16}
    return names | model | {"training.steps": steps, "training.text_first_steps": 4, "training.evaluate_every": 10}


QUICKSTART = {
    "training.steps": 60,
    "training.text_first_steps": 10,
    "training.evaluate_every": 30,
    "data.buckets": 2,
}
VARIANT = tiny(20) | {"training.log_every": 1}
CONSISTENCY = {"losses.consistency.weight": 0.1, "losses.consistency.gradient": "both"}


def language_model(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the language model of `.ci/run`, with a tokenizer of its own."""
    changes = {"data.train.0.name": CORPUS, "data.train.1.name": CORPUS, "data.dev.0.name": CORPUS}
    changes |= {"data.buckets": 2, "model.width": 16, "training.steps": 20, "training.log_every": 1}
    words = [word for field, value in changes.items() for word in (f"--{field}", str(value))]
    config = side.checkout / "configs" / "quickstart_lm.py"
    side.run(folder, "train-lm", config, "--workdir", folder / "run", *words, "--training.evaluate_every", 10)
    yield from files(folder / "run", "metrics.csv")


def greedy(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    yield from evaluated(side, folder, "greedy")


def beam(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield an n-gram of words fused, and one of labels to rescore by."""
    for level, order in (("word", 3), ("label", 4)):
        side.run(folder, "data", "ngram", side.finished, "--order", order, "--level", level, "--out", f"{level}.arpa")
    yield from files(folder, "*.arpa")
    fused = ("--lm", "word.arpa", "--lm-weight", 1, "--insertion-bonus", 2)
    yield from evaluated(side, folder, "beam", "--decoder", "beam")
    yield from evaluated(side, folder, "fused", *fused)
    yield from evaluated(side, folder, "rescored", *fused, "--rescore", "label.arpa")


def streams(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    yield from evaluated(side, folder, "streams", "--stream", lines=False)
    yield from evaluated(side, folder, "windowed", "--stream", "--window-seconds", 2, lines=False)


def windows(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    yield from evaluated(side, folder, "windows", "--window-seconds", 2)


def evaluated(side: Side, folder: Path, name: str, *words: object, lines: bool = True) -> Iterator[tuple[str, str]]:
    """Return the table, and the hypothesis for each utterance."""
    files_ = ["--json", f"{name}.json"] + (["--jsonl", f"{name}.jsonl"] if lines else [])
    side.run(folder, "evaluate", side.finished, "--data", f"test=tfds:{UTTERANCES}", *files_, *words)
    yield from files(folder, f"{name}.json", f"{name}.jsonl")


def transcripts(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    """Three utterances by themselves, and eight in one file; and that file as a stream."""
    import numpy as np
    import soundfile
    import tensorflow_datasets as tfds

    folder.mkdir(parents=True, exist_ok=True)
    name, split = UTTERANCES.split(":", 1)
    corpora = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    version = max((corpora / name / "default").iterdir())
    utterances = tfds.builder_from_directory(version).as_data_source(split)
    audio = [utterances[i]["audio"] for i in range(8)]
    for i, samples in enumerate([*audio[:3], np.concatenate(audio)]):
        soundfile.write(folder / f"{i}.wav", samples, int(utterances[0]["sample_rate"]))
    heard = [f"{i}.wav" for i in range(4)]
    for head in ("streaming", "full_context"):
        yield head, side.run(folder, "transcribe", side.finished, *heard, "--head", head)
    yield "windows", side.run(folder, "transcribe", side.finished, "3.wav", "--window-seconds", 3)
    yield "stream", side.run(folder, "transcribe", side.finished, "3.wav", "--stream")


def word_times(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    """When each word is said, by CTC and by the best alignment to the text at a layer."""
    by = ("--by", "labels", "0", "-1")
    yield "table", side.run(folder, "align", side.finished, "--data", f"test=tfds:{UTTERANCES}", *by)


def layers(side: Side, folder: Path) -> Iterator[tuple[str, str]]:
    data = ("--data", f"test=tfds:{UTTERANCES}")
    side.run(folder, "analyze", side.finished, *data, "--json", "layers.json")
    yield from files(folder, "layers.json")


EXPERIMENTS: dict[str, Experiment] = {
    "tiny": training(tiny(30) | {"parallel.cpu_devices": 2}),
    "quickstart/one_device": training(QUICKSTART),
    "quickstart/two_devices": training(QUICKSTART | {"parallel.cpu_devices": 2}),
    "quickstart/two_processes": training(QUICKSTART, processes=2),
    "variants/accumulation": training(VARIANT | {"training.accumulation": 2}),
    "variants/fsdp": training(VARIANT | {"parallel.cpu_devices": 2, "parallel.fsdp": 2}),
    "variants/tensor": training(VARIANT | {"parallel.cpu_devices": 2, "parallel.tensor": 2}),
    "variants/wordpieces": training(
        VARIANT | {"data.tokenizer.kind": "sentencepiece", "data.tokenizer.vocabulary_size": 64}
    ),
    "variants/masked_paired_text": training(
        VARIANT | CONSISTENCY | {"losses.consistency.text": "masked", "losses.reconstruction.paired": 1.0}
    ),
    "variants/durations": training(VARIANT | {"text.repetition": "durations"}),
    **{
        f"variants/{alignment}": training(VARIANT | CONSISTENCY | {"losses.consistency.alignment": alignment})
        for alignment in ALIGNMENTS
    },
    "lm": language_model,
    "decoding/greedy": greedy,
    "decoding/beam": beam,
    "decoding/streams": streams,
    "decoding/windows": windows,
    "decoding/transcripts": transcripts,
    "decoding/word_times": word_times,
    "decoding/layers": layers,
}


def perform(name: str, side: Side) -> dict:
    """Return the values that an experiment leaves, by file and by their place there, and the seconds it took."""
    folder = side.work / name
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    found = {file: dict(values(file, text)) for file, text in EXPERIMENTS[name](side, folder)}
    if not any(found.values()):
        sys.exit(f"{name}: {side.checkout} left nothing to compare in {folder}")
    seconds = time.perf_counter() - began
    result = {"seconds": seconds, "found": found}
    (folder / "result.json").write_text(json.dumps(result))
    shutil.rmtree(folder / "run", ignore_errors=True)
    return result


def values(file: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the values of a file by their places, without times, under the new names."""
    if file.endswith(".csv"):
        tree: object = list(csv.DictReader(io.StringIO(text)))
    elif file.endswith(".jsonl"):
        tree = [json.loads(line) for line in text.splitlines()]
    elif file.endswith(".json"):
        tree = json.loads(text)
    else:
        tree = text.splitlines()

    def walk(tree: object, place: str) -> Iterator[tuple[str, str]]:
        items = enumerate(tree) if isinstance(tree, list) else tree.items() if isinstance(tree, dict) else None
        if items is None:
            yield place, COLUMNS.get(tree, tree) if isinstance(tree, str) else json.dumps(tree)
            return
        for key, value in items:
            # An empty cell is no value: columns may be there that a run has no use for.
            if key not in CLOCKED and value != "":
                yield from walk(value, f"{place} {COLUMNS.get(key, key)}".strip())

    yield from walk(tree, "")


# Comparison


def compare(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> list[str]:
    """Return lines about the differences; none where all is equal."""
    before, after = (
        {f"{file}: {place}": value for file, places in side.items() for place, value in places.items()}
        for side in (old, new)
    )
    lines = []
    for side, those in (("OLD", before.keys() - after.keys()), ("NEW", after.keys() - before.keys())):
        if those:
            lines.append(f"{len(those)} values are in {side} alone, such as {min(those)}")
    differing = [place for place in before if place in after and before[place] != after[place]]
    if not differing:
        return lines
    apart = {place: gap for place in differing if (gap := distance(before[place], after[place])) is not None}
    lines.append(f"{len(differing)} of {len(before)} values differ, {len(apart)} of them numbers")
    if apart:
        most = max(apart, key=apart.__getitem__)
        lines.append(f"largest relative difference {apart[most]:.3g}: {most}: {before[most]} and {after[most]}")
    shown = [place for place in differing if place not in apart][:1] + differing[:1]
    lines += [f"{place}: {before[place][:100]!r} and {after[place][:100]!r}" for place in dict.fromkeys(shown)]
    return lines


def distance(old: str, new: str) -> float | None:
    """Return the difference of two numbers over the larger one; None where they are something else."""
    try:
        a, b = float(old), float(new)
    except ValueError:
        return None
    return abs(a - b) / max(abs(a), abs(b), 1e-300)


# A finished run, and its conversion


def finished_run(old: Side, new: Side, given: Path | None) -> None:
    """Puts a quickstart trained to its end where both sides expect it, converted for the new one."""
    trained = given or old.work / "quickstart_to_its_end" / "run"
    if not given and not (trained / "evaluations").is_dir():
        print("training the quickstart to its end", flush=True)
        old.run(trained.parent, "train", old.quickstart, "--workdir", trained)
    for side in (old, new):
        shutil.rmtree(side.finished, ignore_errors=True)
        shutil.copytree(trained, side.finished, ignore=shutil.ignore_patterns("evaluations", "analysis"))
    convert_run(new.finished, new.fields, new.format)


# Command line


def identity(checkout: Path) -> str:
    """Return a name that changes with what the checkout computes, or the machine on which it does."""
    git = ("git", "-C", str(checkout))
    parts = [
        subprocess.run([*git, *words], capture_output=True, text=True, check=False).stdout
        for words in (
            ("rev-parse", "--short", "HEAD"),
            ("status", "--porcelain", "--", "joint_st", "configs"),
            ("diff", "HEAD"),
        )
    ]
    cpu = Path("/proc/cpuinfo")
    model = "".join(re.findall(r"model name.*", cpu.read_text())[:1]) if cpu.exists() else ""
    rest = "".join((*parts[1:], model, sys.version, os.environ.get("XLA_FLAGS", "")))
    return f"{parts[0].strip() or checkout.name}-{hashlib.sha256(rest.encode()).hexdigest()[:8]}"


def make_side(checkout: Path, work: Path) -> Side:
    side = Side(checkout.resolve(), work, work / "finished")
    shown = side.run(work / "fields", "train", side.quickstart, "--print-config")
    fields = frozenset(line.split(" = ")[0].strip() for line in shown.splitlines())
    program = "from joint_st.config import file; print(getattr(file, 'FORMAT', 1))"
    environment = os.environ | {"PYTHONPATH": str(side.checkout)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=work, env=environment, stdout=subprocess.PIPE, check=True
    )
    return dataclasses.replace(side, fields=fields, format=int(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", metavar="OLD", type=Path, help="a checkout")
    parser.add_argument("new", metavar="NEW", type=Path, help="another one")
    parser.add_argument("--only", metavar="NAME", nargs="+", help=f"some of {', '.join(EXPERIMENTS)}; or their groups")
    parser.add_argument("--work", metavar="DIR", type=Path, default=Path("~/.cache/joint_st/same_results").expanduser())
    parser.add_argument("--quickstart", metavar="RUN", type=Path, help="a quickstart that OLD has trained to its end")
    options = parser.parse_args()
    chosen = [
        name for name in EXPERIMENTS if not options.only or name in options.only or name.split("/")[0] in options.only
    ]
    for name in options.only or ():
        if name not in EXPERIMENTS and name not in {experiment.split("/")[0] for experiment in EXPERIMENTS}:
            parser.error(f"--only {name}: there are {', '.join(EXPERIMENTS)}")
    work = options.work.resolve()
    old = make_side(options.old, work / identity(options.old.resolve()))
    new = make_side(options.new, work / "new")
    if any(name.startswith("decoding/") for name in chosen):
        finished_run(old, new, options.quickstart)
    failed = []
    began = time.perf_counter()
    for name in chosen:
        kept = old.work / name / "result.json"
        known = kept.exists()
        before = json.loads(kept.read_text()) if known else perform(name, old)
        after = perform(name, new)
        differences = compare(before["found"], after["found"])
        count = sum(map(len, before["found"].values()))
        seconds = f"{before['seconds']:.0f} s{' (kept)' if known else ''} and {after['seconds']:.0f} s"
        print(f"{name}: {'DIFFERS' if differences else f'{count} values equal'}; {seconds}", flush=True)
        for line in differences:
            print(f"    {line}", flush=True)
        failed += [name] * bool(differences)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} equal; {(time.perf_counter() - began) / 60:.1f} min")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

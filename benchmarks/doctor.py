"""Runs `joint-st doctor` on healthy set-ups and on set-ups with one mistake, which it should name.

    python -m benchmarks.doctor            # a line each: which check should name it, and what doctor says
    python -m benchmarks.doctor --whole    # the whole table of each

Each set-up is small, is made in a temporary folder, and is wrong in one way. The exit status is 1 if doctor misses a
mistake or reports another one. It takes about a minute on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import soundfile

from joint_st import storage
from joint_st.cli import main as joint_st
from joint_st.runs import checksums

WORDS = "the old ship sailed slowly past a quiet harbour while seven children waved from the shore".split()


class Setup:
    """A folder with a corpus and a config, and the arguments of the command; cases change it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.arguments: list[str] = []
        self.patches: list[contextlib.AbstractContextManager] = []
        self.corpus = folder / "corpus"
        self.corpus.mkdir()
        random = np.random.default_rng(0)
        lines = []
        for i in range(12):
            seconds = 1.5 + 0.25 * i
            samples = random.normal(0, 3000, round(seconds * 16_000)).astype(np.int16)
            soundfile.write(self.corpus / f"{i}.wav", samples, 16_000)
            text = " ".join(random.choice(WORDS, 3 + i // 2))
            lines.append({"audio_filepath": f"{i}.wav", "duration": seconds, "text": text})
        self.write_manifest(lines)
        (self.corpus / "text.txt").write_text("".join(f"{' '.join(random.choice(WORDS, 6))}\n" for _ in range(20)))
        train = {"kind": "manifest", "path": str(self.corpus / "train.jsonl")}
        self.config: dict = {
            "name": "small",
            "data": {
                "train": [train],
                "dev": [train],
                "text": [{"kind": "text", "path": str(self.corpus / "text.txt")}],
                "units": {"kind": "characters"},
                "batch_size": 4,
                "text_batch_size": 4,
                "index_cache": str(folder / "index"),
            },
            "model": {"width": 32, "heads": 2, "features": {"mels": 16}},
            "spec_augment": {"frequency_width": 4},
            "training": {"steps": 10, "compilation_cache": ""},
            "losses": {"reconstruction": {"full_context": 0.5}},
        }

    @property
    def run(self) -> Path:
        """The directory of the run."""
        return self.folder / "run"

    def lines(self) -> list[dict]:
        """Return the lines of the manifest."""
        return [json.loads(line) for line in (self.corpus / "train.jsonl").read_text().splitlines()]

    def write_manifest(self, lines: list[dict]) -> None:
        """Write the manifest."""
        (self.corpus / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def make_run(self, **facts) -> Path:
        """Make the run's directory as training leaves it, except for its weights."""
        from joint_st.config import load, save
        from joint_st.data.normalizers import normalizer
        from joint_st.data.symbols import save_languages
        from joint_st.data.texts import learn_from_texts

        config = load(self.write_config())
        self.run.mkdir()
        save(config, self.run / "config.json")
        learnt = learn_from_texts(config)
        learnt.symbols.labels.save(self.run / "tokenizer")
        learnt.symbols.units.save(self.run / "units")
        learnt.vocabulary.save(self.run)
        save_languages(learnt.symbols.languages, self.run)
        facts = {"normalizer": str(normalizer(config.data.normalizer)), "step": 10, "wer": 0.5, **facts}
        place = self.run / "checkpoints" / "10" / "facts" / "metadata"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(facts))
        return self.run

    def write_config(self) -> Path:
        """Write the config."""
        path = self.folder / "small.json"
        path.write_text(json.dumps(self.config))
        return path

    def command(self) -> list[str]:
        """Return the arguments of `joint-st`."""
        if self.arguments[:1] == [str(self.run)]:
            return ["doctor", *self.arguments]
        return ["doctor", str(self.write_config()), "--workdir", str(self.run), *self.arguments]


class Case(NamedTuple):
    """A set-up and the check that should name its mistake; no check for a healthy one."""

    what: str
    check: str
    change: Callable[[Setup], None]


def healthy(setup: Setup) -> None:
    """Change nothing."""


def several_slices(setup: Setup) -> None:
    """Train on two slices."""
    setup.arguments = ["--topology", "v5e:2x2", "--parallel.slices", "2", "--data.batch_size", "8"]
    setup.arguments += ["--data.text_batch_size", "8"]


def healthy_run(setup: Setup) -> None:
    """Give a run instead of a config."""
    setup.arguments = [str(setup.make_run())]


def unset_variable(setup: Setup) -> None:
    """Name a variable that is not set."""
    os.environ.pop("NOWHERE_TO_BE_FOUND", None)
    setup.config["data"]["train"][0]["path"] = "$NOWHERE_TO_BE_FOUND/train.jsonl"


def missing_audio(setup: Setup) -> None:
    """Remove the audio files."""
    for file in setup.corpus.glob("*.wav"):
        file.unlink()


def short_audio(setup: Setup) -> None:
    """State twice the length that the audio has."""
    setup.write_manifest([{**line, "duration": 2 * line["duration"]} for line in setup.lines()])


def broken_manifest(setup: Setup) -> None:
    """Cut the manifest's last line."""
    path = setup.corpus / "train.jsonl"
    path.write_bytes(path.read_bytes()[:-20])


def silence(setup: Setup) -> None:
    """Overwrite the audio with zeros."""
    for file in setup.corpus.glob("*.wav"):
        samples, rate = soundfile.read(file)
        soundfile.write(file, np.zeros(len(samples), np.int16), rate)


def telephone(setup: Setup) -> None:
    """Give audio of 8 kHz to a model that takes 16."""
    for file in setup.corpus.glob("*.wav"):
        samples, rate = soundfile.read(file, dtype="int16")
        soundfile.write(file, samples[::2], rate // 2)


def texts_of_missing_audio(setup: Setup) -> None:
    """Take texts from a manifest whose audio is not there, which nothing needs."""
    lines = [{**line, "audio_filepath": f"gone/{line['audio_filepath']}"} for line in setup.lines()]
    (setup.corpus / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    setup.config["data"]["text"] = [{"kind": "manifest", "path": str(setup.corpus / "texts.jsonl")}]


def missing_confusions(setup: Setup) -> None:
    """Name a file of confusions that is not there."""
    setup.config["text"] = {"confusions": str(setup.folder / "confusions.json")}


def weights_at_home(setup: Setup) -> None:
    """Begin with the weights of a run that is named from the home folder."""
    setup.make_run().rename(setup.folder / "first")
    setup.patches.append(unittest.mock.patch.dict(os.environ, HOME=str(setup.folder)))
    setup.config["training"]["init"] = {"run": "~/first"}


def run_alone(setup: Setup) -> None:
    """Take away what a run has begun with: a tokenizer, confusions, another run's weights."""
    from joint_st.data.confusions import Confusions
    from joint_st.data.text_units import load_units
    from joint_st.runs.directory import RunDirectory

    run, gone = setup.make_run(), str(setup.folder / "gone")
    changed = json.loads((run / "config.json").read_text())
    changed["data"]["tokenizer"]["path"] = changed["text"]["confusions"] = gone
    changed["training"]["init"]["run"] = gone
    (run / "config.json").write_text(json.dumps(changed))
    symbols = load_units(run / "units").symbols
    hits, extra = np.eye(len(symbols), dtype=np.int64), np.zeros(len(symbols), np.int64)
    RunDirectory(run).text_confusions.write_text(Confusions(symbols, hits, extra).to_json())
    setup.arguments = [str(run)]


def typo(setup: Setup) -> None:
    """Misspell a field."""
    setup.config["model"]["widht"] = setup.config["model"].pop("width")


def odd_batch(setup: Setup) -> None:
    """Take a batch that the slice does not divide."""
    setup.arguments = ["--topology", "v5e:4x4", "--data.batch_size", "24", "--data.text_batch_size", "16"]


def too_large(setup: Setup) -> None:
    """Take a model that no chip of the slice holds."""
    setup.arguments = ["--topology", "v5e:1x1", "--model.width", "8192", "--model.heads", "16"]
    setup.arguments += ["--model.audio_layers", "8"]


def no_room(setup: Setup) -> None:
    """Keep more checkpoints than the disk holds."""
    setup.arguments = ["--training.keep_latest", str(10**9)]


def file_for_folder(setup: Setup) -> None:
    """Put a file where the run's directory should be."""
    (setup.folder / "taken").write_text("")
    setup.arguments = ["--workdir", str(setup.folder / "taken" / "run")]


def other_run(setup: Setup) -> None:
    """Name the directory of a run with another config."""
    setup.make_run()
    setup.config["model"]["width"] = 48


def cut_tokenizer(setup: Setup) -> None:
    """Cut a file of the run in half."""
    path = setup.make_run() / "tokenizer" / "tokenizer.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    setup.arguments = [str(setup.run)]


def flipped_bit(setup: Setup) -> None:
    """Flip a bit in a checkpoint that has checksums."""
    folder = setup.make_run() / "checkpoints" / "10"
    (folder / "state").mkdir()
    (folder / "state" / "arrays").write_bytes(bytes(range(256)))
    checksums.write(folder, dict(storage.checksums(folder)))
    (folder / "state" / "arrays").write_bytes(bytes([1, *range(1, 256)]))
    setup.arguments = [str(setup.run)]


def other_normalizer(setup: Setup) -> None:
    """Give a run whose texts were normalised by an earlier version."""
    setup.arguments = [str(setup.make_run(normalizer="english v0"))]


def other_language(setup: Setup) -> None:
    """Have texts of another language under the default normaliser, which spells numbers in English."""
    text = {"kind": "text", "path": str(setup.corpus / "text.txt"), "language": "nl"}
    setup.config["data"] |= {"text": [text]}


def closed_bucket(setup: Setup) -> None:
    """Name a bucket that this account may not write."""
    from tests.gcs import serve

    @contextlib.contextmanager
    def bucket() -> Iterator[None]:
        with serve() as (store, environment), unittest.mock.patch.dict(os.environ, environment):
            store.buckets["closed"] = {}
            store.refuse = lambda method, bucket, name: 403 if method == "POST" else None
            yield

    setup.patches.append(bucket())
    setup.arguments = ["--workdir", "gs://closed/run"]


def wrong_clock(setup: Setup) -> None:
    """Set the clock of the disk's server an hour ahead."""
    real = storage.modified
    setup.patches.append(unittest.mock.patch.object(storage, "modified", lambda path: real(path) + 3600))


CASES = (
    Case("healthy: a config", "", healthy),
    Case("healthy: two slices", "", several_slices),
    Case("healthy: a run", "", healthy_run),
    Case("healthy: texts whose audio is missing", "", texts_of_missing_audio),
    Case("healthy: weights of a run in the home folder", "", weights_at_home),
    Case("healthy: a run without what it has begun with", "", run_alone),
    Case("audio of a telephone", "data.train.0", telephone),
    Case("confusions that are not there", "config", missing_confusions),
    Case("a variable of a path is not set", "$NOWHERE_TO_BE_FOUND", unset_variable),
    Case("the files of the audio are missing", "data.train.0", missing_audio),
    Case("audio half as long as stated", "data.train.0", short_audio),
    Case("a manifest that was cut", "data.train.0", broken_manifest),
    Case("audio that is silence", "data.train.0", silence),
    Case("a misspelt field", "config", typo),
    Case("a batch that the slice does not divide", "parallel", odd_batch),
    Case("a model too large for the chip", "memory of a device", too_large),
    Case("no room for the checkpoints", "room", no_room),
    Case("a file where the run should be", "--workdir", file_for_folder),
    Case("another run in the directory", "--workdir", other_run),
    Case("a run whose tokenizer was cut", "inventories", cut_tokenizer),
    Case("a bit of a checkpoint flipped", "checkpoints", flipped_bit),
    Case("a run of another normaliser", "data.normalizer", other_normalizer),
    Case("text of a language that the normaliser does not know", "data.text.0", other_language),
    Case("a bucket that cannot be written", "--workdir", closed_bucket),
    Case("a clock that is an hour off", "clocks", wrong_clock),
)


def examine(case: Case, folder: Path) -> tuple[int, str, list[dict]]:
    """Return the exit status of doctor on a case, what it printed, and its checks."""
    setup, printed, table = Setup(folder), io.StringIO(), folder / "checks.json"
    case.change(setup)
    with contextlib.ExitStack() as stack:
        for patch in setup.patches:
            stack.enter_context(patch)
        stack.enter_context(contextlib.redirect_stdout(printed))
        try:
            status = joint_st([*setup.command(), "--json", str(table)])
        except SystemExit as error:
            status = error.code
    return status, printed.getvalue(), json.loads(table.read_text())


def verdict(case: Case, status: int, checks: list[dict]) -> str:
    """Return what doctor did wrong; empty where it was right."""
    bad = [check for check in checks if check["state"] != "ok" and not check["name"].startswith("memory of the host")]
    if not case.check:
        return "" if status == 0 and not bad else f"status {status}, {bad[:1]}"
    if not any(check["name"] == case.check for check in bad):
        return f"no {case.check} among {[check['name'] for check in bad]}"
    if any(not check["do"] for check in bad):
        return "does not say what to do"
    worst = any(check["state"] == "problem" for check in bad)
    return "" if status == int(worst) else f"status {status}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--whole", action="store_true", help="print the whole table of each set-up")
    options = parser.parse_args()
    missed = 0
    for case in CASES:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="joint_st_doctor_") as folder:
            status, printed, checks = examine(case, Path(folder))
            printed = printed.replace(folder, "")
        wrong = verdict(case, status, checks)
        missed += bool(wrong)
        print(
            f"{'MISSED' if wrong else 'ok':<7} {case.what}: exit status {status}, {time.perf_counter() - began:.1f} s {wrong}"
        )
        if options.whole:
            print(printed)
            continue
        named = [check for check in checks if check["state"] != "ok"]
        for check in named:
            told = f"{check['state']}: {check['name']}: {check['found']} -> {check['do']}".replace(folder, "")
            print(f"        {told}")
    print(f"{len(CASES) - missed} of {len(CASES)} set-ups were named as they should be")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

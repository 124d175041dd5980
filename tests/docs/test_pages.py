"""The commands of the documentation's pages, run as they stand there: `pytest -m docs -n 0`.

Each page runs in a folder that looks like a clone after the quickstart: `configs/` (in which `quickstart.py` is small and
reads a tiny corpus), `runs/quickstart`, and a corpus of WAV files with its manifest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, commands, missing
from tests.tiny import CHECKOUT, environment, joint_st

DOCS = CHECKOUT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if not {"generated", "_build"} & set(page.relative_to(DOCS).parts))
WITH_CODE = [page for page in PAGES if any(block.language in ("console", "python") for block in blocks(page))]

SECONDS = 300
"""Longest time for one command."""

SMALL = """

def small(config, changes):
    from joint_st.config import override

    return override(config, {"training.steps": 8, "training.log_every": 2, "training.evaluate_every": 4,
                             "training.checkpoint_every": 4, **changes})


full_config = config


def config():
    corpora = {f"data.{part}.name": "spoken_grammar/tiny" for part in PARTS}
    return small(full_config(), {**corpora, **CHANGES})
"""
QUICKSTART = {
    "PARTS": ("train.0", "dev.0", "test.test", "text.0"),
    "CHANGES": {
        "model.width": 16,
        "model.features.mels": 16,
        "training.text_first_steps": 2,
        "optimizer.warmup_steps": 2,
        "evaluation.bootstrap_samples": 100,
    },
}
QUICKSTART_LM = {
    "PARTS": ("train.0", "train.1", "dev.0"),
    "CHANGES": {"model.width": 16, "data.buckets": 1, "optimizer.warmup_steps": 2},
}


@pytest.fixture(scope="module")
def clone(once, corpora, spoken, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder like a clone after the quickstart, and the environment of its commands."""
    variables = environment(
        TFDS_DATA_DIR=str(corpora),
        PATH=f"{tmp_path_factory.mktemp('bin')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        COLUMNS="200",
    )
    command = Path(variables["PATH"].partition(":")[0]) / "joint-st"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m joint_st "$@"\n')
    command.chmod(0o755)

    def make(folder):
        folder.mkdir()
        shutil.copytree(CHECKOUT / "configs", folder / "configs")
        shutil.copytree(CHECKOUT / "launch", folder / "launch")
        for name, small in (("quickstart.py", QUICKSTART), ("quickstart_lm.py", QUICKSTART_LM)):
            with open(folder / "configs" / name, "a") as file:
                file.write(SMALL + "".join(f"\n{name} = {value!r}\n" for name, value in small.items()))
        shutil.copytree(spoken, folder / "corpus")
        first = min((folder / "corpus").glob("*.wav"))
        shutil.copy(first, folder / "one.wav")
        manifest = (folder / "corpus" / "test.jsonl").read_text()
        for split in ("train", "dev"):
            (folder / "corpus" / f"{split}.jsonl").write_text(manifest)
        done = joint_st("train", "configs/quickstart.py", cwd=folder)
        assert done.returncode == 0, done.stderr
        # The scripts that copy a checkout to other machines ask git what it is.
        (folder / ".gitignore").write_text("runs/\n")
        for command in (
            ["init"],
            ["add", "--all"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "all"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)

    os.environ["TFDS_DATA_DIR"] = str(corpora)  # for `make`
    try:
        return once("clone", make), variables
    finally:
        del os.environ["TFDS_DATA_DIR"]


@pytest.mark.docs
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_what_a_page_says_runs(page, clone, tmp_path):
    template, variables = clone
    folder = tmp_path / "joint_st"
    shutil.copytree(template, folder)
    for block in blocks(page):
        if not block.skip:
            run(block, folder, variables, f"{page.name}:{block.line}")


def run(block: Block, folder: Path, variables: dict[str, str], where: str) -> None:
    """Write the file of a block, or run what it holds."""
    if block.file:
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
    elif block.language == "python":
        check(where, [sys.executable, "-c", block.text], (), folder, variables)
    elif block.language == "console":
        for command, output in commands(block.text):
            check(f"{where}: {command}", ["bash", "-euo", "pipefail", "-c", command], output, folder, variables)


def check(where: str, command: list[str], output: tuple[str, ...], folder: Path, variables: dict[str, str]) -> None:
    """Run a command; it fails where it prints an error that the page does not show."""
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=SECONDS)
    printed = done.stdout + done.stderr
    refused = any("error:" in line for line in output)
    assert (done.returncode != 0) == refused, f"{where}: exit status {done.returncode}\n{printed[-3000:]}"
    absent = missing(output, done.stdout if not refused else printed)
    absent = absent and missing(output, done.stderr) and missing(output, printed)
    assert absent is None, f"{where}: did not print\n{absent}\nbut\n{printed[-3000:]}"

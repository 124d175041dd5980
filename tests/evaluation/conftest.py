"""A run with language models, and a split in two parts."""

from __future__ import annotations

import json
import shutil

import pytest

from joint_st.cli import main


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A run of the module's own, with language models over words and letters and a file of hot words in its folder."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("fused") / "run")
    for level in ("word", "label"):
        arguments = ["data", "ngram", str(folder), "--order", "2", "--level", level]
        assert main([*arguments, "--out", str(folder / f"{level}.arpa")]) == 0
    (folder / "hot.txt").write_text("March\n\nanna lee\n")
    return folder


@pytest.fixture
def splits(spoken, tmp_path) -> dict[str, str]:
    """The split in two parts, as NAME=SOURCE: some utterances to tune on, the others to report."""
    lines = (spoken / "test.jsonl").read_text().splitlines()
    for name, rows in {"dev": lines[:4], "test": lines[4:]}.items():
        entries = [json.loads(row) for row in rows]
        entries = [{**entry, "audio_filepath": str(spoken / entry["audio_filepath"])} for entry in entries]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return {name: f"{tmp_path}/{name}.jsonl" for name in ("dev", "test")}

"""The notebooks of the documentation: what is in their files, how the site shows them, and, with `-m docs`, their run."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import shutil
from urllib.parse import urldefrag

import numpy as np
import pytest

from tests.docs.test_writing import MOST_WORDS, by_hand
from tests.tiny import CHECKOUT

NOTEBOOKS = sorted((CHECKOUT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_notebooks", CHECKOUT / "docs" / "run_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(notebook: dict, kind: str) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_all_of_them_are_executed(runner):
    assert sorted(runner.NAMES) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_prose_of_a_notebook(path, runner):
    """It is short, states no result by hand, and its links lead somewhere."""
    prose = "\n\n".join(map(runner.text, cells(json.loads(path.read_text(encoding="utf-8")), "markdown")))
    assert by_hand(prose) == []
    assert len(prose.split()) <= MOST_WORDS
    for address in re.findall(r"\]\(([^)\s]+)\)", prose):
        assert (path.parent / urldefrag(address)[0]).exists(), address


def test_outputs_are_shown_where_they_are_of_the_same_cells(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "EXECUTED", tmp_path)
    title = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "\n", "Text."]}
    code = {"cell_type": "code", "id": "b", "metadata": {}, "source": "1 + 1", "outputs": [], "execution_count": None}
    notebook = {"cells": [title, code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}

    def found() -> tuple[list, str]:
        first, note, last = json.loads(runner.shown("one", json.dumps(notebook)))["cells"]
        assert "".join(first["source"]) == "".join(title["source"]) and "<one.ipynb>" in note["source"]
        return last["outputs"], note["source"]

    assert found()[0] == [] and "no outputs" in found()[1]
    done = {"output_type": "stream", "name": "stdout", "text": "2"}
    executed = notebook | {"cells": [title | {"source": "# Title\n\nText."}, code | {"outputs": [done]}]}
    for toy, said in ((False, "those of the quickstart"), (True, "mean nothing")):
        (tmp_path / "one.ipynb").write_text(json.dumps(executed | {"metadata": {"toy": toy}}))
        assert found()[0] == [done] and said in found()[1]
    code["source"] = "1 + 2"
    assert found()[0] == []


@pytest.mark.docs
def test_both_run_from_nothing(runner, corpora, tmp_path, monkeypatch):
    """In a folder like a clone in which nothing was trained, as a toy."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(corpora))
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setitem(os.environ, runner.SWITCH, "toy")
    shutil.copytree(CHECKOUT / "configs", tmp_path / "configs")
    folder = shutil.copytree(CHECKOUT / "docs" / "notebooks", tmp_path / "docs" / "notebooks")
    five, look = (outputs(runner.execute(folder / f"{name}.ipynb", toy=True)) for name in runner.NAMES)

    rates = re.findall(r"^(\w+) +WER ([\d.]+)%, 95 % interval ([\d.]+)% to ([\d.]+)%$", five["text"], re.MULTILINE)
    assert {name for name, *_ in rates} == {"all", "heard", "text_only"}
    for _, rate, low, high in rates:
        assert float(low) <= float(rate) <= float(high) and float(rate) > 0
    assert re.search(r'<audio.*src="data:audio/wav;base64,', five["html"], re.DOTALL)
    assert re.search(r"^one\.wav:", five["text"], re.MULTILINE)
    assert re.search(r"^ *\d+\.\d\d s +full_context", five["text"], re.MULTILINE)
    assert [drawn(image) for image in five["images"]] == [True]
    assert (tmp_path / "runs" / "toy" / "report.html").stat().st_size > 100_000

    assert "full context 1" in look["html"] + look["text"]
    assert [drawn(image) for image in look["images"]] == [True, True]
    assert re.search(
        r"^\S+ +\d+\.\d\d to +\d+\.\d\d s +in truth +\d+\.\d\d to +\d+\.\d\d s$", look["text"], re.MULTILINE
    )
    assert re.search(r"^[1-9]\d* words of the test split", look["text"], re.MULTILINE)


def outputs(notebook: dict) -> dict:
    """Text, HTML and images that the cells of a notebook gave."""
    found = {"text": "", "html": "", "images": []}
    for cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            found["text"] += output.get("text", "")
            data = output.get("data", {})
            found["html"] += data.get("text/html", "")
            if "image/png" in data:
                found["images"].append(base64.b64decode(data["image/png"]))
    return found


def drawn(image: bytes) -> bool:
    """Whether a picture is a large one of more than a few colours."""
    import io

    import PIL.Image

    pixels = np.asarray(PIL.Image.open(io.BytesIO(image)).convert("RGB"))
    return min(pixels.shape[:2]) > 200 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50

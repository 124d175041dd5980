"""Execute the notebooks of `docs/notebooks/`, and keep their outputs and the report that they write for the site.

    python docs/run_notebooks.py          # the whole quickstart: some minutes on 2 CPU cores
    python docs/run_notebooks.py --toy    # a toy of about a minute, whose numbers mean nothing

The notebooks in the repository have no outputs. What is executed lies in `docs/_executed/`, which git ignores; a build of
the site shows it where it is there and was made from the cells as they are now (`shown`). So a build stays quick, and the
published site, for which the workflow executes them first, shows a real model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

DOCS = Path(__file__).resolve().parent
EXECUTED = DOCS / "_executed"
REPORT = EXECUTED / "site" / "report.html"
"""The report that a notebook has written; the site has it at its root."""

NAMES = ("five_minutes", "look_inside")
"""The notebooks in the order of their execution: the second one needs the run of the first."""

SWITCH = "JOINT_ST_NOTEBOOKS"
"""Variable of the environment by which the notebooks train a toy."""
SECONDS = 3600
"""Longest time for one cell."""

NOTE = """{{note}}
{{download}}`Download this notebook <{name}.ipynb>` or open it in a clone: `pip install -c constraints.txt -e '.[notebooks]'`, then
`jupyter lab docs/notebooks/{name}.ipynb`. {outputs}
"""


def execute(notebook: Path, toy: bool) -> dict:
    """Return a notebook with its outputs, executed in the folder that it lies in. Raises where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    node = nbformat.read(notebook, as_version=4)
    os.environ[SWITCH] = "toy" if toy else "full"
    if toy:  # it compiles much and computes little
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    NotebookClient(
        node,
        kernel_name="python3",
        timeout=SECONDS,
        startup_timeout=SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(notebook.parent)}},
    ).execute()
    node.metadata["toy"] = toy
    return node


def text(cell: dict) -> str:
    """Return the source of a cell, which a file may have as a list of lines."""
    return "".join(cell["source"])


def shown(name: str, source: str) -> str:
    """Return the notebook `name`, the file `source`, as the site shows it: with a note on how to open it, and with the
    outputs of its execution where that was of the same cells."""
    notebook, outputs = json.loads(source), "The site was built without executing it, so there are no outputs."
    file = EXECUTED / f"{name}.ipynb"
    if file.is_file():
        executed = json.loads(file.read_text(encoding="utf-8"))
        if [*map(text, executed["cells"])] == [*map(text, notebook["cells"])]:
            notebook, outputs = executed, "The outputs are those of the quickstart."
            if executed["metadata"]["toy"]:
                outputs = "The outputs are those of a toy that was trained for seconds; its numbers mean nothing."
    note = ":::" + NOTE.format(name=name, outputs=outputs) + ":::"
    notebook["cells"].insert(1, {"cell_type": "markdown", "id": "note", "metadata": {}, "source": note})
    return json.dumps(notebook)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="train a toy; its numbers mean nothing")
    toy = parser.parse_args().toy
    import nbformat

    REPORT.parent.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        began = time.perf_counter()
        node = execute(DOCS / "notebooks" / f"{name}.ipynb", toy)
        nbformat.write(node, EXECUTED / f"{name}.ipynb")
        print(f"{name}: {time.perf_counter() - began:.0f} s")
    shutil.copy(DOCS.parent / "runs" / ("toy" if toy else "quickstart") / "report.html", REPORT)
    return 0


if __name__ == "__main__":
    sys.exit(main())

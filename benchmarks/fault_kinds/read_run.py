"""Reads runs as `joint-st evaluate` and `joint-st transcribe` do, many in one process, and prints the result of each.

    python -m benchmarks.fault_kinds.read_run

Each line on stdin is a JSON object: `run`, `commands` (lists of arguments of `joint-st`, in which `RUN` stands for the
run), and `files` (that they write). The answer is a line of JSON: `status`, `told`, and `result`, the digests of all
that was read and computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import sys
import traceback
from pathlib import Path


def read(run: str, commands: list[list[str]], files: list[str]) -> dict:
    """Return the output of the commands on a run, and the digest of the files that they write; stop at the first that
    fails."""
    from joint_st.cli import main

    digests, out, err, status = {}, io.StringIO(), io.StringIO(), 0
    for file in files:
        Path(file).unlink(missing_ok=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for command in commands:
            try:
                status = main([run if one == "RUN" else one for one in command])
            except SystemExit as error:
                status = int(error.code or 0)
            except BaseException:
                status = 1
                traceback.print_exc()
            if status:
                break
        else:
            digests = {"weights": weights(run, commands[0][commands[0].index("--checkpoint") + 1])}
    text = re.sub(r"\d+\.\d\d\d?\b *│? *\n", "", out.getvalue())  # the real-time factor is the last column
    digests["printed"] = digest(text.encode())
    for file in map(Path, files):
        content = file.read_bytes() if file.exists() else b""
        digests[file.name] = digest(re.sub(rb'"real_time_factor": [0-9.e-]+', b"", content))
    return {"status": status, "told": err.getvalue(), "result": digests}


def weights(run: str, checkpoint: str) -> str:
    """Return the digest of the weights, and of everything that is loaded with them.

    Of the config, these are the fields that determine what the weights compute. Others may be edited when a run has moved,
    such as the place of a test split: nobody can tell that from damage but by what the commands print and write.
    """
    import jax
    import numpy as np

    from joint_st.runs.directory import fixed_fields
    from joint_st.runs.trained import load_trained

    found = load_trained(Path(run), checkpoint)
    # Sorted: the order of a set is another one in each process.
    words = [sorted(own) for own in (found.vocabulary.heard, found.vocabulary.read)]
    said = f"{found.step} {found.normalizer} {json.dumps(fixed_fields(found.config))} {words}"
    parts = [said.encode()] + [np.asarray(x).tobytes() for x in jax.tree.leaves(found.weights)]
    parts += [file.read_bytes() for folder in ("tokenizer", "units") for file in sorted((Path(run) / folder).glob("*"))]
    return digest(b"".join(parts))


def digest(content: bytes) -> str:
    """Return a short hash."""
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> None:
    # What libraries print to the terminal from outside Python goes to stderr's file, the answers to a pipe of their
    # own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(read(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()

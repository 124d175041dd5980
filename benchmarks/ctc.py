"""Time of `joint_st.ops.ctc` compared with the CTC of Optax and of PyTorch, forward and backward.

    python -m benchmarks.ctc                                    # all sizes, to benchmarks/results/ctc.json
    python -m benchmarks.ctc --only 500x256 --rounds 5          # one size, printed only

The three take turns on the same batch in one process, with as many threads each. Utterances have three quarters of the
frames to all of them, and half the labels to all of them. In addition to the times (benchmarks/side_by_side.py), rows
hold:

- `ours_error`, `theirs_error`: distance of the gradient from Optax's in float64, over that gradient's norm;
- `ours_bytes`, `theirs_bytes`: memory that the program needs in addition to its inputs and outputs (of Optax alone).
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.machine import RESULTS, threads
from benchmarks.one_gpu.common import ctc_batch
from benchmarks.side_by_side import Rows, compared, compiled, distribution, take_turns, unusable
from joint_st.ops.ctc import ctc_loss

FILE = RESULTS / "ctc.json"
PACKAGES = ("jax", "jaxlib", "optax", "torch", "numpy")
SIZES = [
    # frames, vocabulary, labels
    (250, 32, 64),
    (500, 256, 64),
    (500, 1024, 64),
    (1000, 256, 128),
    (1000, 4096, 128),
]


def ours(logits, logit_lengths, labels, label_lengths):
    return ctc_loss(logits, logit_lengths, labels, label_lengths)[0].sum()


def optax_ctc(logits, logit_lengths, labels, label_lengths):
    pad_frames = jnp.arange(logits.shape[1]) >= logit_lengths[:, None]
    pad_labels = jnp.arange(labels.shape[1]) >= label_lengths[:, None]
    kind = logits.dtype
    return optax.ctc_loss(logits, pad_frames.astype(kind), labels, pad_labels.astype(kind)).sum()


def torch_ctc(logits, logit_lengths, labels, label_lengths) -> Callable[[], np.ndarray]:
    """Return a program that runs PyTorch's CTC with its gradient, which it returns."""
    import torch

    torch.set_num_threads(threads())
    place = "cuda" if jax.devices()[0].platform == "gpu" else "cpu"
    logits = torch.tensor(logits, device=place, requires_grad=True)
    labels = torch.tensor(labels, dtype=torch.long, device=place)
    lengths = [torch.tensor(one, dtype=torch.long) for one in (logit_lengths, label_lengths)]

    def program():
        log_probs = logits.log_softmax(-1).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(log_probs, labels, *lengths, reduction="sum")
        logits.grad = None
        loss.backward()
        if place == "cuda":
            torch.cuda.synchronize()
        return logits.grad

    return program


def exact_gradient(batch):
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jax.grad(optax_ctc))(jnp.asarray(batch[0], jnp.float64), *batch[1:]))


def temporary_bytes(function, batch) -> int:
    return jax.jit(function).lower(*batch).compile().memory_analysis().temp_size_in_bytes


def compare(batch, rounds: int) -> list[dict[str, Any]]:
    """Return what the rows of a batch say: one for each rival."""
    names = {"optax": distribution("optax"), "torch": "PyTorch"}
    on_device = jax.device_put(batch)
    functions = {"ours": jax.value_and_grad(ours), "optax": jax.value_and_grad(optax_ctc)}
    programs = {name: compiled(function, *on_device) for name, function in functions.items()}
    missing = None
    if importlib.util.find_spec("torch") is None:
        missing = "not installed: pip install torch"
    else:
        try:
            programs["torch"] = torch_ctc(*batch)
            names["torch"] = distribution("torch")
        except (ImportError, OSError, RuntimeError) as error:  # a wheel that does not fit this machine
            missing = unusable(error)
    exact = exact_gradient(batch)
    gradients = {name: program() if name == "torch" else program()[1] for name, program in programs.items()}
    errors = {
        name: float(
            np.linalg.norm(np.asarray(found.cpu() if name == "torch" else found) - exact) / np.linalg.norm(exact)
        )
        for name, found in gradients.items()
    }
    seconds = take_turns(programs, rounds)
    rows = []
    for name in ("optax", "torch"):
        row: dict[str, Any] = {"op": "ctc", "rival": names[name]}
        if name not in seconds:
            rows.append(row | {"missing": missing})
            continue
        row |= compared(seconds["ours"], seconds[name])
        row |= {"ours_error": errors["ours"], "theirs_error": errors[name]}
        if name == "optax":
            row["ours_bytes"], row["theirs_bytes"] = (temporary_bytes(one, on_device) for one in functions.values())
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ctc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns of each program, at least; 15 by default")
    parser.add_argument("--batch", type=int, default=16, help="utterances; 16 by default")
    parser.add_argument("--only", metavar="TxV", nargs="+", help="sizes with these numbers of frames and symbols alone")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the rows; of all sizes, benchmarks/results/ctc.json")
    options = parser.parse_args()
    sizes = [size for size in SIZES if not options.only or f"{size[0]}x{size[1]}" in options.only]
    if not sizes:
        parser.error(f"--only {' '.join(options.only)}: sizes are {', '.join(f'{t}x{v}' for t, v, _ in SIZES)}")
    rows = Rows(options.out or (None if options.only else FILE), PACKAGES, 2 * len(sizes))
    for frames, vocabulary, labels in sizes:
        about = {"batch": options.batch, "frames": frames, "vocabulary": vocabulary, "labels": labels}
        for row in compare(ctc_batch(options.batch, frames, vocabulary, labels), options.rounds):
            rows.add({"op": row.pop("op"), "rival": row.pop("rival")} | about | row)
    rows.end()


if __name__ == "__main__":
    main()

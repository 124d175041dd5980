"""Time of the alignments of `joint_st.ops.matching` and of forced alignment compared with others, on the same batches.

    python -m benchmarks.alignment                                # all, to benchmarks/results/alignment.json
    python -m benchmarks.alignment --only skip dtw --rounds 5     # some alone, printed only

`skip` and `dtw` are compared with a literal form of the recursion of arXiv 2308.06125, which takes a minimum over all
earlier positions for each position, O(T·R²), and `dtw` also with such a form of its own recursion (the literal forms are
jitted, written in this file, and find the same paths); `skip` and `soft` with the soft DTW of ott-jax, which has no
masks and gets every utterance at full length. The other alignments are compared with `skip`. All of these are losses
with their gradients by both sides.

`forced_alignment` is compared with a plain compiled Viterbi search over the states of CTC, written in this file, and with
torchaudio's `forced_align`, which takes one utterance at a time; all return the path and its log probability.

Rows are explained in benchmarks/side_by_side.py. `frames`, `positions`, `width` are those of audio and of text; `batch`
is utterances times layers.
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
from jax import lax

from benchmarks.machine import RESULTS, threads
from benchmarks.one_gpu.common import ctc_batch
from benchmarks.side_by_side import Rows, compared, compiled, distribution, take_turns, unusable
from joint_st.ops.forced_alignment import forced_alignment
from joint_st.ops.masks import length_mask
from joint_st.ops.matching import alignment_loss
from joint_st.ops.matching.cost import path_costs

FILE = RESULTS / "alignment.json"
PACKAGES = ("jax", "jaxlib", "ott-jax", "torch", "torchaudio", "numpy")
SIZES = [
    # utterances times layers, audio frames, text frames, width
    (24, 75, 100, 96),
    (16, 250, 64, 256),
    (16, 250, 250, 256),
]
FORCED_SIZES = [
    # utterances, frames, vocabulary, labels
    (16, 250, 32, 64),
    (16, 500, 256, 64),
    (16, 1000, 1024, 128),
]
OTT, PAPER, OWN, SKIP = "ott-jax", "the paper's recursion, literally", "its own recursion, literally", "skip"
RIVALS = {
    "skip": (PAPER, OTT),
    "dtw": (PAPER, OWN),
    "soft": (OTT,),
    "step": (SKIP,),
    "optimal_transport": (SKIP,),
    "frame_wise": (SKIP,),
    "random": (SKIP,),
    "given": (SKIP,),
}
"""What each alignment is compared with."""
FORCED = "forced_alignment"
VITERBI, TORCHAUDIO = "a plain Viterbi search", "torchaudio"


def ours(alignment: str) -> Callable:
    """Return the loss of an alignment."""

    def total(audio, text, audio_lengths, text_lengths):
        extra = {}
        if alignment == "random":
            extra["key"] = jax.random.key(0)
        if alignment == "given":
            extra["given"] = jnp.broadcast_to(jnp.arange(audio.shape[1]) // 4, audio.shape[:2])
        # One nat for each dimension, about what temperatures are good for.
        temperature = float(audio.shape[2])
        loss = alignment_loss(
            audio, text, audio_lengths, text_lengths, alignment=alignment, temperature=temperature, **extra
        )
        return loss.value.sum()

    return total


def literal_path(costs, audio_lengths, text_lengths):
    """Return the path of `skip_path`, with a minimum over all earlier positions for each position."""
    positions = costs.shape[2]
    earlier = np.tri(positions, dtype=bool)

    def forward(best, cost):
        candidates = jnp.where(earlier, best[:, None, :], 1e30)
        return candidates.min(axis=2) + cost, candidates.argmin(axis=2)

    def back(position, frame):
        came_from, i = frame
        before = jnp.take_along_axis(came_from, position[:, None], axis=1)[:, 0]
        return jnp.where(i < audio_lengths, before, position), position

    first = jnp.where(jnp.arange(positions) == 0, costs[0], 1e30)
    _, came_from = lax.scan(forward, first, costs[1:])
    frames = jnp.arange(1, costs.shape[0])
    beginning, others = lax.scan(back, text_lengths - 1, (came_from, frames), reverse=True)
    return jnp.concatenate([beginning[:, None], others.T], axis=1)


def literal(audio, text, audio_lengths, text_lengths):
    """Return the loss of `skip` by its literal recursion."""
    mask = length_mask(text_lengths, text.shape[1])
    costs = path_costs(lax.stop_gradient(audio), lax.stop_gradient(text), mask, relative=True)
    path = literal_path(costs, audio_lengths, text_lengths)
    return alignment_loss(audio, text, audio_lengths, text_lengths, alignment="given", given=path).value.sum()


def literal_dtw_runs(costs, audio_lengths, text_lengths):
    """Return the runs of `dtw_path`, with a minimum over all beginnings of each run."""
    positions = costs.shape[2]
    earlier = np.tri(positions, dtype=bool)

    def forward(best, cost):
        advanced = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=1e30)
        sums = jnp.cumsum(cost, axis=1)
        run = sums[:, :, None] - (sums - cost)[:, None, :]  # of all positions from k (last axis) to j
        candidates = jnp.where(earlier, jnp.minimum(advanced, best)[:, None, :] + run, 1e30)
        return candidates.min(axis=2), (candidates.argmin(axis=2), advanced <= best)

    def back(last, frame):
        began, advances, i = frame
        first = jnp.take_along_axis(began, last[:, None], axis=1)
        before = jnp.maximum(first - jnp.take_along_axis(advances, first, axis=1), 0)[:, 0]
        return jnp.where(i < audio_lengths, before, last), (first[:, 0], last)

    _, (began, advances) = lax.scan(forward, jnp.cumsum(costs[0], axis=1), costs[1:])
    frames = jnp.arange(1, costs.shape[0])
    ending, (first, last) = lax.scan(back, text_lengths - 1, (began, advances, frames), reverse=True)
    return jnp.pad(first, ((1, 0), (0, 0))).T, jnp.concatenate([ending[None], last]).T


def literal_dtw(audio, text, audio_lengths, text_lengths):
    """Return the loss of `dtw` by its literal recursion: the distance of every pair in its runs, masked."""
    mask = length_mask(text_lengths, text.shape[1])
    costs = path_costs(lax.stop_gradient(audio), lax.stop_gradient(text), mask, relative=False)
    first, last = literal_dtw_runs(costs, audio_lengths, text_lengths)
    positions = jnp.arange(text.shape[1])
    pairs = (positions >= first[..., None]) & (positions <= last[..., None])
    pairs &= length_mask(audio_lengths, audio.shape[1])[..., None]
    distances = jnp.moveaxis(path_costs(audio, text, mask, relative=False), 0, 1)
    return (jnp.where(pairs, distances, 0.0).sum(axis=(1, 2)) / audio_lengths).sum()


def ott_soft_dtw(audio, text, audio_lengths, text_lengths):
    from ott.geometry.costs import SoftDTW

    return jax.vmap(SoftDTW(gamma=float(audio.shape[2])))(audio, text).sum()


def random_batch(batch, frames, positions, width):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(batch, frames, width)).astype(np.float32),
        rng.normal(size=(batch, positions, width)).astype(np.float32),
        rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32),
        rng.integers(positions // 2, positions + 1, batch).astype(np.int32),
    )


def plain_viterbi(logits, logit_lengths, labels, label_lengths):
    """Return the label that each frame of the likeliest path spells, -1 for a blank, and the path's log probability.

    The states of an utterance are its labels with a blank (0) before, between and after them. Each keeps in every frame
    which of the three states that lead to it was best.
    """
    states = jnp.zeros((labels.shape[0], 2 * labels.shape[1] + 1), labels.dtype).at[:, 1::2].set(labels)
    may_skip = jnp.pad((states[:, 2:] > 0) & (states[:, 2:] != states[:, :-2]), ((0, 0), (2, 0)))
    emissions = jnp.take_along_axis(jax.nn.log_softmax(logits), states[:, None], axis=2).swapaxes(0, 1)
    valid = (jnp.arange(logits.shape[1]) < logit_lengths[:, None]).T[..., None]

    def moved(scores, by):
        return jnp.pad(scores[:, :-by], ((0, 0), (by, 0)), constant_values=-jnp.inf)

    def forward(scores, frame):
        emission, valid = frame
        candidates = jnp.stack([scores, moved(scores, 1), jnp.where(may_skip, moved(scores, 2), -jnp.inf)])
        after = jnp.where(valid, candidates.max(axis=0) + emission, scores)
        return after, jnp.where(valid, candidates.argmax(axis=0), 0)

    def back(state, steps):
        return state - jnp.take_along_axis(steps, state, axis=1), state

    # One frame before the first, in which nothing is spelled.
    start = jnp.full(states.shape, -jnp.inf).at[:, 0].set(0.0)
    scores, steps = lax.scan(forward, start, (emissions, valid))
    ends = 2 * label_lengths[:, None] - jnp.array([0, 1])
    last = jnp.take_along_axis(scores, ends, axis=1)
    state = jnp.take_along_axis(ends, last.argmax(axis=1)[:, None], axis=1)
    _, path = lax.scan(back, state, steps, reverse=True)
    path = jnp.where(valid, path, 0)[..., 0].T
    return jnp.where(path % 2 == 1, path // 2, -1), last.max(axis=1)


def our_path(*batch):
    found = forced_alignment(*batch)
    return found.label, found.log_prob


def torchaudio_paths(logits, logit_lengths, labels, label_lengths) -> Callable[[], list]:
    """Return a program that aligns one utterance after the other by torchaudio."""
    import torch
    from torchaudio.functional import forced_align

    torch.set_num_threads(threads())
    logits, labels = torch.tensor(logits), torch.tensor(labels)

    def program():
        log_probs, found = logits.log_softmax(-1), []
        for one, spelled, frames, length in zip(log_probs, labels, logit_lengths, label_lengths):
            path, scores = forced_align(one[None, :frames], spelled[None, :length])
            found.append((path, scores.sum()))
        return found

    program()
    return program


def compare_losses(size: tuple[int, ...], chosen: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return what the rows of a size say."""
    batch = jax.device_put(random_batch(*size))
    rivals = dict.fromkeys(rival for name in chosen for rival in RIVALS[name])
    losses = {name: ours(name) for name in dict.fromkeys([*chosen, *rivals]) if name in RIVALS}
    losses |= {name: loss for name, loss in ((PAPER, literal), (OWN, literal_dtw)) if name in rivals}
    missing = {}
    if OTT in rivals and importlib.util.find_spec("ott") is None:
        missing[OTT] = "not installed: pip install ott-jax"
    elif OTT in rivals:
        losses[OTT] = ott_soft_dtw
    programs = {name: compiled(jax.value_and_grad(loss, (0, 1)), *batch) for name, loss in losses.items()}
    for name, other in (("skip", PAPER), ("dtw", OWN)):
        if name in programs and other in programs:
            np.testing.assert_allclose(programs[name]()[0], programs[other]()[0], rtol=1e-4)
    seconds = take_turns(programs, rounds)
    rows = []
    for name in chosen:
        for rival in RIVALS[name]:
            row = {"op": name, "rival": f"{distribution(OTT)}, soft DTW" if rival == OTT and OTT in losses else rival}
            found = {"missing": missing[rival]} if rival in missing else compared(seconds[name], seconds[rival])
            rows.append(row | found)
    return rows


def compare_forced(size: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Return what the rows of forced alignment say of a size."""
    batch = ctc_batch(*size)
    on_device = jax.device_put(batch)
    programs: dict[str, Callable[[], Any]] = {
        name: compiled(function, *on_device) for name, function in ((FORCED, our_path), (VITERBI, plain_viterbi))
    }
    found, plain = programs[FORCED](), programs[VITERBI]()
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-5)
    if (
        same := np.mean(np.asarray(found[0]) == np.asarray(plain[0]))
    ) < 0.99:  # ties, and paths that are nearly as good
        raise RuntimeError(f"forced alignment: only {same:.0%} of the frames are as those of {VITERBI}")
    missing = None
    if importlib.util.find_spec("torchaudio") is None:
        missing = "not installed: pip install torchaudio"
    else:
        try:
            programs[TORCHAUDIO] = torchaudio_paths(*batch)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:  # a wheel that does not fit this machine
            missing = unusable(error)
    seconds = take_turns(programs, rounds)
    rows = [{"op": FORCED, "rival": VITERBI} | compared(seconds[FORCED], seconds[VITERBI])]
    if missing is not None:
        return [*rows, {"op": FORCED, "rival": TORCHAUDIO, "missing": missing}]
    rival = {"op": FORCED, "rival": distribution(TORCHAUDIO)}
    return [*rows, rival | compared(seconds[FORCED], seconds[TORCHAUDIO])]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alignment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns of each program, at least; 15 by default")
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=[*RIVALS, FORCED], help="these alignments alone")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the rows; of all, benchmarks/results/alignment.json")
    options = parser.parse_args()
    chosen = [name for name in RIVALS if not options.only or name in options.only]
    forced = not options.only or FORCED in options.only
    of = len(SIZES) * sum(len(RIVALS[name]) for name in chosen) + 2 * len(FORCED_SIZES) * forced
    rows = Rows(options.out or (None if options.only else FILE), PACKAGES, of)
    for size in SIZES if chosen else []:
        sizes = dict(zip(("batch", "frames", "positions", "width"), size))
        for row in compare_losses(size, chosen, options.rounds):
            rows.add({"op": row.pop("op"), "rival": row.pop("rival")} | sizes | row)
    for size in FORCED_SIZES if forced else []:
        sizes = dict(zip(("batch", "frames", "vocabulary", "labels"), size))
        for row in compare_forced(size, options.rounds):
            rows.add({"op": row.pop("op"), "rival": row.pop("rival")} | sizes | row)
    rows.end()


if __name__ == "__main__":
    main()

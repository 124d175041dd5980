"""Time of `prefix_beam_search` beside flashlight-text's and pyctcdecode's lexicon-free decoders, on the same emissions.

    python benchmarks/decoding.py [--rounds 5] [--batch 16] [--beam 16] [--candidates 8] [--emissions FILE.npz]

All take turns on the same batch, so that a busy machine slows all of them; the fastest round of each counts, since
other jobs only ever add time: read the ratios, not the times. A decoder that is not installed is named and left out.
pyctcdecode asks for an older NumPy than JAX does; it runs beside JAX where it was installed by
`pip install --no-deps pyctcdecode pygtrie`.

The three do not prune alike. flashlight-text counts the blank as one of a frame's symbols, so it is given one more,
and keeps the two ends of a prefix as two entries of its beam; pyctcdecode has no fixed number of candidates (those
above `token_min_logp`, -5 by default, are tried). The columns `same` say in which share of the utterances another
decoder spells the same as `prefix_beam_search`.

The emissions are made up: label sequences with a sure blank or label in most frames. `--emissions` reads others
instead, from an `.npz` with `logits` float [B, T, V], the blank at 0, and `lengths` int [B].
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import logging
import math
import time

import jax
import numpy as np

from joint_st.decoding.beam import prefix_beam_search

SIZES = [
    # frames, vocabulary
    (250, 32),
    (500, 256),
    (1000, 256),
    (1000, 1024),
]

MODULES = {"flashlight-text": "flashlight", "pyctcdecode": "pyctcdecode"}


def ours(logits, lengths, beam, candidates):
    """A function without arguments that decodes the batch, here and below."""
    on_device = jax.device_put((logits, lengths))

    def decode():
        found = jax.device_get(prefix_beam_search(*on_device, beam=beam, candidates=candidates))
        return [row[0, : length[0]].tolist() for row, length in zip(found.labels, found.lengths)]

    return decode


def flashlight_text(logits, lengths, beam, candidates):
    from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions, ZeroLM

    symbols = logits.shape[2]
    options = LexiconFreeDecoderOptions(
        beam_size=beam,
        beam_size_token=min(candidates + 1, symbols),
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    # It takes a symbol for silence; the blank serves, since its score is 0.
    decoder = LexiconFreeDecoder(options, ZeroLM(), 0, 0, [])
    log_probs = log_softmax(logits)

    def decode():
        spelled = []
        for row, length in zip(log_probs, lengths):
            row = np.ascontiguousarray(row[:length])
            best = decoder.decode(row.ctypes.data, int(length), symbols)[0]
            spelled.append([symbol for symbol, _ in itertools.groupby(best.tokens) if symbol > 0])
        return spelled

    return decode


def pyctcdecode(logits, lengths, beam, candidates):
    # It warns of what it does without: kenlm, and a label for the space.
    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    from pyctcdecode import build_ctcdecoder

    # Letters of a script without spaces or capitals stand for the labels; "" is the blank.
    first = 0x4E00
    decoder = build_ctcdecoder(["", *(chr(first + i) for i in range(1, logits.shape[2]))])
    log_probs = log_softmax(logits)

    def decode():
        found = (
            decoder.decode(row[:length], beam_width=beam, beam_prune_logp=-1e9)
            for row, length in zip(log_probs, lengths)
        )
        return [[ord(letter) - first for letter in text] for text in found]

    return decode


OTHERS = {"flashlight-text": flashlight_text, "pyctcdecode": pyctcdecode}


def log_softmax(logits):
    return np.asarray(jax.nn.log_softmax(logits), np.float32)


def made_up(batch, frames, symbols):
    """Logits [B, T, V] and lengths [B]: about a quarter of the frames spell a label, and one in ten is unsure."""
    rng = np.random.default_rng(0)
    winners = np.where(rng.random((batch, frames)) < 0.25, rng.integers(1, symbols, (batch, frames)), 0)
    height = np.where(rng.random((batch, frames)) < 0.1, 2.0, 8.0) + math.log(symbols)
    logits = rng.normal(0, 1, (batch, frames, symbols))
    np.put_along_axis(logits, winners[..., None], height[..., None], axis=2)
    return logits.astype(np.float32), rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32)


def measure(decoders, rounds):
    """Seconds of each decoder's fastest round, and what each spells."""
    seconds, spelled = dict.fromkeys(decoders, math.inf), {}
    for name, decode in decoders.items():
        spelled[name] = decode()
    for _ in range(rounds):
        for name, decode in decoders.items():
            start = time.perf_counter()
            decode()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds, spelled


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--beam", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--frames", type=int, help="with --vocabulary, one size instead of the usual ones")
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--emissions", metavar="FILE", help="an .npz with `logits` and `lengths`")
    arguments = parser.parse_args()

    absent = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    others = {name: make for name, make in OTHERS.items() if name not in absent}
    print(f"on {jax.devices()[0].device_kind}; beam {arguments.beam}, {arguments.candidates} candidates a frame")
    for name in absent:
        print(f"{name} is not installed: left out")
    print("   B     T     V   ours ms" + "".join(f"{name + ' ms':>20}   ratio    same" for name in others))
    if arguments.emissions:
        with np.load(arguments.emissions) as file:
            batches = [(file["logits"], file["lengths"])]
    elif arguments.frames and arguments.vocabulary:
        batches = [made_up(arguments.batch, arguments.frames, arguments.vocabulary)]
    else:
        batches = (made_up(arguments.batch, *size) for size in SIZES)
    for logits, lengths in batches:
        given = logits, lengths, arguments.beam, arguments.candidates
        decoders = {"ours": ours(*given), **{name: make(*given) for name, make in others.items()}}
        seconds, spelled = measure(decoders, arguments.rounds)
        line = "".join(f"{size:6}" for size in logits.shape)[2:] + f"{1e3 * seconds['ours']:10.1f}"
        for name in others:
            same = np.mean([one == other for one, other in zip(spelled["ours"], spelled[name], strict=True)])
            line += f"{1e3 * seconds[name]:20.1f}{seconds[name] / seconds['ours']:8.1f}{same:8.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()

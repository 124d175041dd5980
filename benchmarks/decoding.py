"""Time of beam search and forced alignment compared with other libraries, on the same emissions.

    python benchmarks/decoding.py [--rounds 5] [--batch 16] [--beam 16] [--candidates 8] [--emissions FILE.npz]
    python benchmarks/decoding.py --run RUN [--lm lm.arpa] [--lm-weight 1] [--insertion-bonus 4.5]

All take turns on the same batch, so that a busy machine slows all of them; the fastest round of each counts, since
other jobs can only add time. Read the ratios, not the times. A library that is not installed is named and left out.
pyctcdecode asks for an older NumPy than JAX does; it runs together with JAX where it was installed by
`pip install --no-deps pyctcdecode pygtrie`. torchaudio's wheels ask for PyTorch's with CUDA, and need no GPU.

Beam search: `prefix_beam_search` is compared with the lexicon-free decoders of flashlight-text and pyctcdecode, which
prune differently. flashlight-text counts the blank as one of a frame's symbols, so it is given one more, and keeps the
two ends of a prefix as two entries of its beam; pyctcdecode has no fixed number of candidates (those above
`token_min_logp`, -5 by default, are tried). The columns `same` have the share of the utterances in which another
decoder finds the same text.

With `--lm`, all fuse the same word n-gram with the same weight and bonus, read by KenLM in the others. flashlight-text
then uses its lexicon decoder, which spells only words of the model, each with a space after it; it therefore gets one
more frame, which is a space. Its search has far fewer prefixes.

Forced alignment: `forced_alignment` with the text of greedy decoding is compared with torchaudio's `forced_align`,
which takes one utterance at a time; `same` are equal paths.

The other libraries are given log probabilities; ours takes logits, and normalises them each time.

The emissions are made up: label sequences with a sure blank or label in most frames. `--emissions` reads others
instead, from an `.npz` with `logits` float [B, T, V], the blank at 0, and `lengths` int [B]; `--run` takes those of a
run's full-context head on the first utterances of its dev set.

Measured on 2 CPU cores, times of the others over ours, batch 16; noise is the output of an untrained model. The last
line is for the quickstart's run, with its word 3-gram in brackets, where the others find the same text in 0.75 and 1.00
of the utterances:

       T     V           flashlight-text   pyctcdecode   torchaudio's alignment
     250    32                       7.9          16.7                      0.9
     250    32   noise              10.8         194.7
     500   256                       6.2           6.3                      0.7
    1000   256                       8.5           7.2                      0.8
    1000  1024                       4.5           1.4                      0.4
      94    29                 4.6 (0.7)    15.4 (5.4)                      0.7
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import logging
import math
import time
from pathlib import Path

import jax
import numpy as np

from joint_st.ops.forced_alignment import forced_alignment
from joint_st.ops.prefix_beam import prefix_beam_search
from joint_st.passes import FULL_CONTEXT

SIZES = [
    # frames, vocabulary
    (250, 32),
    (500, 256),
    (1000, 256),
    (1000, 1024),
]

MODULES = {"flashlight-text": "flashlight", "pyctcdecode": "pyctcdecode", "torchaudio": "torchaudio"}


def ours(logits, lengths, beam, candidates, fusion=None):
    """Return a function without arguments that decodes the batch, here and below."""
    on_device = jax.device_put((logits, lengths, fusion))

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


# With a word n-gram. `fused` is a `Fused`, `words` those of the model, `spelled` the text of each label; what they find
# are texts.


def flashlight_text_with_lm(logits, lengths, beam, candidates, lm, fused, words, spelled):
    from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    weights = fused.fusion.weights
    options = LexiconDecoderOptions(
        beam_size=beam,
        beam_size_token=min(candidates + 1, logits.shape[2]),
        beam_threshold=1e9,
        lm_weight=weights.lm * math.log(10),  # KenLM's logarithms are decimal
        word_score=weights.insertion_bonus,
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    dictionary = Dictionary([*words, "<unk>"])
    model = KenLM(str(lm), dictionary)
    label, start = {text: i for i, text in enumerate(spelled)}, model.start(False)
    trie = Trie(logits.shape[2], label[" "])
    for word in words:
        index = dictionary.get_index(word)
        trie.insert([*(label[letter] for letter in word), label[" "]], index, model.score(start, index)[1])
    trie.smear(SmearingMode.MAX)
    decoder = LexiconDecoder(options, trie, model, label[" "], 0, dictionary.get_index("<unk>"), [], False)
    log_probs = log_softmax(logits)
    end = np.full((1, logits.shape[2]), -1e3, np.float32)
    end[0, label[" "]] = 0

    def decode():
        said = []
        for row, length in zip(log_probs, lengths):
            row = np.concatenate([row[:length], end])
            best = decoder.decode(row.ctypes.data, len(row), row.shape[1])[0]
            said.append(" ".join(dictionary.get_entry(word) for word in best.words if word >= 0))
        return said

    return decode


def pyctcdecode_with_lm(logits, lengths, beam, candidates, lm, fused, words, spelled):
    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    from pyctcdecode import build_ctcdecoder

    weights = fused.fusion.weights
    decoder = build_ctcdecoder(
        spelled,
        str(lm),
        words,
        alpha=weights.lm,
        beta=weights.insertion_bonus,
        unk_score_offset=-weights.unknown_penalty,
    )
    log_probs = log_softmax(logits)

    def decode():
        return [
            decoder.decode(row[:length], beam_width=beam, beam_prune_logp=-1e9)
            for row, length in zip(log_probs, lengths)
        ]

    return decode


OTHERS_WITH_LM = {"flashlight-text": flashlight_text_with_lm, "pyctcdecode": pyctcdecode_with_lm}


# Forced alignment


def our_alignment(logits, lengths, labels, label_lengths):
    on_device, align = jax.device_put((logits, lengths, labels, label_lengths)), jax.jit(forced_alignment)

    def decode():
        found = jax.device_get(align(*on_device).label)
        return [
            np.where(path[:length] >= 0, row[np.maximum(path[:length], 0)], 0).tolist()
            for path, row, length in zip(found, labels, lengths)
        ]

    return decode


def torchaudio(logits, lengths, labels, label_lengths):
    import torch
    from torchaudio.functional import forced_align

    rows = [
        (torch.from_numpy(row[None, :length].copy()), torch.from_numpy(own[None, :count].copy()))
        for row, length, own, count in zip(log_softmax(logits), lengths, labels, label_lengths)
    ]
    return lambda: [forced_align(*row)[0][0].tolist() for row in rows]


def log_softmax(logits):
    return np.asarray(jax.nn.log_softmax(logits), np.float32)


def made_up(batch, frames, symbols):
    """Return logits [B, T, V] and lengths [B]: about a quarter of the frames spell a label, and one in ten is
    unsure."""
    rng = np.random.default_rng(0)
    winners = np.where(rng.random((batch, frames)) < 0.25, rng.integers(1, symbols, (batch, frames)), 0)
    height = np.where(rng.random((batch, frames)) < 0.1, 2.0, 8.0) + math.log(symbols)
    logits = rng.normal(0, 1, (batch, frames, symbols))
    np.put_along_axis(logits, winners[..., None], height[..., None], axis=2)
    return logits.astype(np.float32), rng.integers(3 * frames // 4, frames + 1, batch).astype(np.int32)


def noise(batch, frames, symbols):
    """Return meaningless logits [B, T, V] and lengths [B], like those of an untrained model."""
    logits = np.random.default_rng(0).normal(0, 1, (batch, frames, symbols))
    return logits.astype(np.float32), np.full(batch, frames, np.int32)


def measure(decoders, rounds):
    """Return the seconds of each decoder's fastest round, and the text of each."""
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
    parser.add_argument("--run", metavar="RUN", type=Path, help="a run over characters, whose dev set is decoded")
    parser.add_argument("--lm", metavar="FILE", type=Path, help="with --run, an ARPA file over words")
    parser.add_argument("--lm-weight", type=float, default=1.0)
    parser.add_argument("--insertion-bonus", type=float, default=4.5)
    arguments = parser.parse_args()
    if arguments.lm and not arguments.run:
        parser.error("--lm spells words by a run's characters: add --run RUN")

    absent = [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]
    print(f"on {jax.devices()[0].device_kind}; beam {arguments.beam}, {arguments.candidates} candidates a frame")
    for name in absent:
        print(f"{name} is not installed: left out")
    trained = None
    if arguments.run:
        from joint_st.runs.trained import load_trained

        trained = load_trained(arguments.run)
        batches = [of_run(trained, arguments.batch)]
    elif arguments.emissions:
        with np.load(arguments.emissions) as file:
            batches = [(file["logits"], file["lengths"])]
    elif arguments.frames and arguments.vocabulary:
        batches = [made_up(arguments.batch, arguments.frames, arguments.vocabulary)]
    else:
        batches = [made_up(arguments.batch, *size) for size in SIZES]
    sizes = arguments.beam, arguments.candidates

    searched = {"beam search": batches}
    if len(batches) > 1:
        searched["beam search in noise"] = [noise(arguments.batch, *SIZES[0])]
    for what, of_kind in searched.items():
        show_heading(what, [name for name in OTHERS if name not in absent])
        for batch in of_kind:
            others = {name: make(*batch, *sizes) for name, make in OTHERS.items() if name not in absent}
            show(batch, {"ours": ours(*batch, *sizes), **others}, arguments.rounds)
    if arguments.lm:
        from joint_st.decoding.fusion import Weights
        from joint_st.decoding.fusion.build import FusionFiles
        from joint_st.lm.arpa import read_arpa, spellings

        weights = Weights(arguments.lm_weight, arguments.insertion_bonus)
        fused = FusionFiles(arguments.lm, None, weights).open(trained.tokenizer, trained.normalizer)
        given = *batches[0], *sizes, arguments.lm, fused, read_arpa(arguments.lm).tokens, spellings(trained.tokenizer)
        decode = ours(*batches[0], *sizes, fused.fusion)
        show_heading(f"beam search with {fused.names[0]}", [name for name in OTHERS_WITH_LM if name not in absent])
        others = {name: make(*given) for name, make in OTHERS_WITH_LM.items() if name not in absent}
        show(
            batches[0],
            {"ours": lambda: [trained.tokenizer.decode(labels).strip() for labels in decode()], **others},
            arguments.rounds,
        )
    if "torchaudio" not in absent:
        show_heading("forced alignment", ["torchaudio"])
        for batch in batches:
            given = *batch, *as_rows(best_paths(*batch))
            show(batch, {"ours": our_alignment(*given), "torchaudio": torchaudio(*given)}, arguments.rounds)


def of_run(trained, count):
    """Return full-context logits [B, T, V] and lengths [B] of the first utterances of a run's dev set."""
    from joint_st.data.dataset import open_paired
    from joint_st.decoding.forward import Forward

    config, frame = trained.config, trained.config.model.features.samples_per_frame
    dataset = open_paired(
        list(config.data.dev), config.data, config.model.features, trained.normalizer, trained.tokenizer, training=False
    )
    audio = [dataset.load(i).audio for i in range(count)]
    rows = np.zeros((count, -(-max(map(len, audio)) // frame) * frame), np.int16)
    for row, own in zip(rows, audio):
        row[: len(own)] = own
    forward = Forward(config, trained.symbols.sizes, trained.mesh, (), [FULL_CONTEXT])
    with jax.set_mesh(trained.mesh):
        (logits,), mask = forward.emissions(trained.weights, rows, np.array([len(own) for own in audio], np.int32))
    return np.array(logits), np.array(mask).sum(axis=1)


def best_paths(logits, lengths):
    """Return the labels of each utterance's best path: B arrays int32 [labels]."""
    symbols = logits.argmax(axis=2)
    emitted = (symbols != np.pad(symbols, ((0, 0), (1, 0)))[:, :-1]) & (np.arange(logits.shape[1]) < lengths[:, None])
    return [row[own & (row != 0)].astype(np.int32) for row, own in zip(symbols, emitted)]


def as_rows(labels):
    """Return sequences of labels as int32 [B, U] and lengths int32 [B]; an empty one gets a label, so that it can be
    aligned."""
    labels = [row if len(row) else np.array([1], np.int32) for row in labels]
    rows = np.zeros((len(labels), max(map(len, labels))), np.int32)
    for row, own in zip(rows, labels):
        row[: len(own)] = own
    return rows, np.array([len(own) for own in labels], np.int32)


def show_heading(what, others):
    print(f"\n{what}\n   B     T     V   ours ms" + "".join(f"{name + ' ms':>20}   ratio    same" for name in others))


def show(batch, decoders, rounds):
    """Print a line of the table: the first of the decoders compared with the others."""
    seconds, spelled = measure(decoders, rounds)
    line = "".join(f"{size:6}" for size in batch[0].shape)[2:] + f"{1e3 * seconds['ours']:10.1f}"
    for name in list(decoders)[1:]:
        same = np.mean([one == other for one, other in zip(spelled["ours"], spelled[name], strict=True)])
        line += f"{1e3 * seconds[name]:20.1f}{seconds[name] / seconds['ours']:8.1f}{same:8.2f}"
    print(line, flush=True)


if __name__ == "__main__":
    main()

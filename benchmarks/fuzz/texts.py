"""Manifests, sentences, transcripts and n-gram language models."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from benchmarks.fuzz import mutate
from benchmarks.fuzz.audio import RATE, speech
from benchmarks.fuzz.kind import CHECKOUT, Kind, Seed
from benchmarks.fuzz.mutate import Field


def manifest_seeds(folder: Path) -> list[Seed]:
    """Return a manifest of three utterances with all keys that mean something."""
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, np.tile(speech(0.5)[:, None], (1, 1 + (name == "b.wav"))), RATE)
    (folder / "text.txt").write_text("no audio\n")
    rows = (
        {"audio_filepath": "a.wav", "duration": 0.5, "text": "one two", "id": "u1", "speaker": "s", "language": "en"},
        {"audio_filepath": "b.wav", "offset": 0.1, "duration": 0.2, "text": "three", "snr": 10.0, "noise": "car"},
        {"audio_filepath": "a.wav", "text": "four five", "word_starts": [0.0, 0.2], "word_ends": [0.2, 0.45]},
        {"audio_filepath": "b.wav", "text": "six", "id": 7, "duration": None, "channel": 0, "extra": {"a": [1]}},
    )
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return [Seed("m.jsonl", content)]


def change_manifest(chance: Random, seed: Seed) -> bytes:
    """Change values and keys of its lines, and its lines."""
    return mutate.json_lines(chance, seed.content)


def read_manifest(folder: Path, seed: Seed) -> str:
    """Read every line's entry and its utterance."""
    from joint_st.config import ManifestSource
    from joint_st.data.sources.manifest import Manifest
    from joint_st.errors import UserError

    corpus = Manifest(ManifestSource(path=str(folder / seed.name)))
    refused = None
    for i in range(len(corpus)):
        try:
            entry = corpus.entry(i)
            if not (math.isfinite(entry.seconds) and 0 <= entry.seconds < 1e9 and isinstance(entry.text, str)):
                return f"line {i}: {entry}"
            if entry.problem:
                raise UserError(entry.problem)
            if entry.snr is not None and not math.isfinite(entry.snr):
                return f"line {i}: snr {entry.snr}"
            f"{entry.id}{entry.speaker}{entry.language}{entry.noise}".encode("utf-8", "surrogatepass")
            utterance = corpus[i]
            if utterance.audio.dtype != np.int16 or not 0 < utterance.sample_rate:
                return f"line {i}: {utterance}"
        except UserError as error:  # the other lines are read all the same
            refused = error
    if refused:
        raise refused
    return ""


def text_seeds(folder: Path) -> list[Seed]:
    """Return a file of sentences."""
    return [Seed("t.txt", "\ufeffone two\n\nthree\u2028four\r\n  five \nsix".encode())]


def read_texts(folder: Path, seed: Seed) -> str:
    """Read every sentence."""
    from joint_st.config import TextSource
    from joint_st.data.sources.text import Sentences

    corpus = Sentences(TextSource(path=str(folder / seed.name)))
    texts = [corpus.entry(i).text for i in range(len(corpus))] + [corpus[i].text for i in range(len(corpus))]
    return "" if all(isinstance(text, str) for text in texts) else "no text"


def change_lines(chance: Random, seed: Seed) -> bytes:
    """Change lines and their tokens."""
    return mutate.lines(chance, seed.content)


# Language models.


ARPA = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-99\t<s>\t-0.3
-0.9\t</s>
-1.1\t<unk>
-0.7\ta\t-0.2
-0.8\tb c\u00e9\t-0.1
\\2-grams:
-0.4\t<s> a\t-0.1
-0.5\ta bc\u00e9
-0.6\tbc\u00e9 </s>
-0.5\ta </s>

\\3-grams:
-0.1\t<s> a bc\u00e9
-0.2\ta bc\u00e9 </s>

\\end\\
""".replace("b c", "bc")


def arpa_seeds(folder: Path) -> list[Seed]:
    """Return a model of three orders, plain and gzipped."""
    return [Seed("lm.arpa", ARPA.encode()), Seed("lm.arpa.gz", ARPA.encode())]


def change_arpa(chance: Random, seed: Seed) -> bytes:
    """Change lines and tokens, or sometimes the compressed bytes of the gzipped one."""
    content = (
        seed.content if seed.name.endswith(".gz") and chance.random() < 0.3 else mutate.lines(chance, seed.content)
    )
    if not seed.name.endswith(".gz"):
        return content
    packed = gzip.compress(content, 1, mtime=0)
    return mutate.damage(chance, packed, len(packed)) if content is seed.content else packed


def plausible_model(model) -> str:
    """Return what is impossible in an n-gram model; empty where nothing is."""
    for n, of_order in enumerate(model.ngrams, 1):
        for ngram, (log_prob, backoff) in of_order.items():
            if len(ngram) != n or not all(ngram):
                return f"{ngram} among {n}-grams"
            if not (-99 <= log_prob <= 1e-3) or not math.isfinite(backoff):
                return f"{ngram}: {log_prob} {backoff}"
    return ""


def read_model(folder: Path, seed: Seed) -> str:
    """Read the whole model."""
    from joint_st.lm.kenlm import read_ngrams

    return plausible_model(read_ngrams(folder / seed.name))


def kenlm_seeds(folder: Path) -> list[Seed]:
    """Tries of KenLM with all values and with tables of them; the fixed header, the counts and the first words."""
    files = sorted((CHECKOUT / "tests" / "lm" / "kenlm_files").rglob("*.bin"))
    seeds = []
    for file in files:
        content = file.read_bytes()
        fields = [Field(88, 1), Field(92, 4), Field(96, 4), Field(100, 1), Field(104, 4)]
        fields += [Field(108 + 8 * n, 8) for n in range(4)] + [Field(at, 4) for at in range(140, 400, 4)]
        fields += [Field(at, 1) for at in range(0, 88, 4)]
        seeds.append(Seed(file.name, content, fields, file.stem in ("trie", "quantized")))
    return seeds


def change_kenlm(chance: Random, seed: Seed) -> bytes:
    """Change numbers of the header and of the tables, cut the file, or change bytes anywhere."""
    if chance.random() < 0.6:
        return mutate.set_fields(chance, seed.content, seed.fields)
    return mutate.damage(chance, seed.content, len(seed.content) if chance.random() < 0.5 else 500)


def transcript_seeds(folder: Path) -> list[Seed]:
    """Transcripts of a few utterances in each format, two of which have to be told by their content."""
    rows = [
        {"id": "a", "pred_text": "one two"},
        {"audio_filepath": "b.wav", "offset": 1.5, "pred_text": "x", "text": "three"},
    ]
    json_lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    trn = ";; a comment\none two (a)\nthr\u00e9e (b)\n".encode()
    seeds = [
        Seed("t.jsonl", json_lines),
        Seed("t.json_lines", json_lines),
        Seed("t.trn", trn),
        Seed("t.of_nist", trn),
        Seed("t.ctm", b";; a comment\na 1 0.50 0.30 one 0.9\na 1 0.10 0.30 two\nb A 1.0 0.5 three 1.0\n"),
        Seed("t.stm", STM),
        Seed("t.kaldi", b"a one two\nb three\n"),
    ]
    (folder / "reference.stm").write_bytes(STM)
    (folder / "hypothesis.ctm").write_bytes(seeds[4].content)
    return seeds


STM = b"""\
;; a comment
a 1 spk 0.0 1.5 <o,f0> one two
b 1 spk 1.0 2.5 three
c 1 spk 0.5 2.5 IGNORE_TIME_SEGMENT_IN_SCORING
"""


def change_transcripts(chance: Random, seed: Seed) -> bytes:
    """Change lines and tokens, or values and keys."""
    return (mutate.json_lines if "json" in seed.name else mutate.lines)(chance, seed.content)


def read_transcript_file(folder: Path, seed: Seed) -> str:
    """Read the file in the format of its ending or content, or, if neither shows it, in the stated format."""
    from joint_st.evaluation.transcript_files import HYPOTHESIS_KEYS, read_transcripts
    from joint_st.evaluation.transcript_matching import by_segment

    form = "kaldi" if seed.name.endswith(".kaldi") else None
    found = read_transcripts(folder / seed.name, form, keys=HYPOTHESIS_KEYS, folder=folder)
    for one in found.said:
        if not (math.isfinite(one.start) and math.isfinite(one.end) and 0 <= one.start <= one.end):
            return f"{one}"
    if found.form in ("ctm", "stm"):
        name = "reference.stm" if found.form == "ctm" else "hypothesis.ctm"
        other = read_transcripts(folder / name, keys=HYPOTHESIS_KEYS)
        by_segment(*((other, found) if found.form == "ctm" else (found, other)))
    texts = found.texts()
    return "" if all(isinstance(text, str) and id for id, text in texts.items()) else f"{texts}"


KINDS = (
    Kind(
        "manifests",
        {"joint_st.data.sources.manifest": (), "joint_st.data.sources.lines": ()},
        manifest_seeds,
        change_manifest,
        read_manifest,
    ),
    Kind(
        "files of sentences",
        {"joint_st.data.sources.text": (), "joint_st.data.sources.lines": ()},
        text_seeds,
        change_lines,
        read_texts,
    ),
    Kind("ARPA", {"joint_st.lm.arpa": ("read_arpa", "_open", "_parse", "_ngram")}, arpa_seeds, change_arpa, read_model),
    Kind(
        "KenLM tries",
        {"joint_st.lm.kenlm": ("is_kenlm", "read_kenlm", "_read_trie", "_bits", "read_ngrams")},
        kenlm_seeds,
        change_kenlm,
        read_model,
    ),
    Kind(
        "transcripts",
        {"joint_st.evaluation.transcript_files": (), "joint_st.evaluation.transcript_matching": ("by_segment",)},
        transcript_seeds,
        change_transcripts,
        read_transcript_file,
    ),
)

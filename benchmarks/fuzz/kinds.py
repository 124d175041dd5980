"""The kinds of files that are read: valid ones, how they are mutated, what reads them, and what may come of it."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import soundfile

from benchmarks.fuzz import mutate
from benchmarks.fuzz.mutate import Field

CHECKOUT = Path(__file__).resolve().parents[2]
RATE = 8000
"""Hz of the audio that is mutated: it is a third of a second long."""


class Seed(NamedTuple):
    """A valid file."""

    name: str
    """Its path in the folder of a case."""
    content: bytes
    fields: Sequence[Field] = ()
    """Numbers in its header."""
    valid: bool = True
    """Whether it is read; otherwise it is one that is refused, and mutated all the same."""


class Kind(NamedTuple):
    """A kind of file."""

    name: str
    readers: Mapping[str, Sequence[str]]
    """By module, the functions and classes that read it: their lines are to be covered. Without names, all of them."""
    prepare: Callable[[Path], Sequence[Seed]]
    """Puts what stays the same into the folder of the cases, and returns the valid files."""
    change: Callable[[Random, Seed], bytes]
    """Mutates one."""
    read: Callable[[Path, Seed], str]
    """Reads the folder of a case; says what of the result cannot be, or is empty. It may raise `UserError`."""
    family: str = ""
    """Kinds of one family have readers in common, whose lines are run by all of them together."""
    covered: float = 0.9
    """Share of the readers' lines that the cases are to run, once all of the family were tried."""


# Audio.


def _speech(seconds: float = 0.3) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def _encoded(form: str, subtype: str | None = None, channels: int = 1, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.tile(_speech()[:, None], (1, channels)), rate, format=form, subtype=subtype)
    return file.getvalue()


def wav_seeds(folder: Path) -> list[Seed]:
    """PCM of 16 and 24 bits, floats, µ-law, two channels, and the extensible and 64-bit headers."""
    seeds = []
    for form, subtype, channels in (
        ("WAV", "PCM_16", 1),
        ("WAV", "PCM_16", 2),
        ("WAV", "PCM_24", 1),
        ("WAV", "FLOAT", 1),
        ("WAV", "ULAW", 1),
        ("WAV", "IMA_ADPCM", 1),
        ("WAVEX", "PCM_16", 2),
        ("RF64", "PCM_16", 1),
    ):
        content = _encoded(form, subtype, channels)
        # Sizes of the chunks, and all numbers of the chunk `fmt `.
        at = content.index(b"fmt ")
        fields = [Field(4, 4), Field(at + 4, 4), Field(at + 8, 2), Field(at + 10, 2), Field(at + 12, 4)]
        fields += [Field(at + 16, 4), Field(at + 20, 2), Field(at + 22, 2), Field(content.index(b"data") + 4, 4)]
        seeds.append(Seed(f"{form}_{subtype}_{channels}.wav", content, fields))
    return seeds


def flac_seeds(folder: Path) -> list[Seed]:
    """One and two channels, 16 and 24 bits; fields of STREAMINFO and of the first frames."""
    seeds = []
    for subtype, channels in (("PCM_16", 1), ("PCM_16", 2), ("PCM_24", 1)):
        content = _encoded("FLAC", subtype, channels)
        # Block sizes (2 × 16 bits), frame sizes (2 × 24), then rate, channels, bits and the 36 bits of all samples.
        fields = [Field(4, 1), Field(5, 3, True), Field(8, 2, True), Field(10, 2, True), Field(12, 3, True)]
        fields += [Field(15, 3, True), Field(18, 4, True), Field(18, 8, True), Field(22, 4, True)]
        fields += [Field(at, 1) for at in range(42, 60)]
        seeds.append(Seed(f"{subtype}_{channels}.flac", content, fields))
    return seeds


def mp3_seeds(folder: Path) -> list[Seed]:
    """With and without the header of a tag, and without the frame that says how many there are."""
    content = _encoded("MP3", rate=16_000)
    start = next(at for at in range(len(content)) if content[at] == 0xFF and content[at + 1] & 0xE0 == 0xE0)
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x14TIT2\x00\x00\x00\x0a\x00\x00\x03a title xx"
    seeds = []
    for name, whole in (("plain", content), ("tagged", tag + content[start:]), ("no_count", content[start + 144 :])):
        fields = [Field(at, 1) for at in range(0, 48)] + [Field(at, 4, True) for at in range(0, 160, 4)]
        seeds.append(Seed(f"{name}.mp3", whole, fields))
    return seeds


def ogg_seeds(form: str, subtype: str) -> Callable[[Path], list[Seed]]:
    """Headers of the pages, and of the codec in the first one."""

    def make(folder: Path) -> list[Seed]:
        seeds = []
        for channels in (1, 2):
            content = _encoded(form, subtype, channels, 16_000 if subtype == "OPUS" else RATE)
            fields = []
            for start, _ in mutate.ogg_pages(content):
                fields += [Field(start + 4, 1), Field(start + 5, 1), Field(start + 6, 8), Field(start + 14, 4)]
                fields += [Field(start + 18, 4), Field(start + 26, 1), Field(start + 27, 1)]
            first = mutate.ogg_pages(content)[0][0] + 28
            fields += [
                Field(first + at, size) for at, size in ((8, 1), (9, 1), (10, 2), (11, 1), (12, 4), (16, 2), (18, 1))
            ]
            seeds.append(Seed(f"{subtype}_{channels}.ogg", content, fields))
        return seeds

    return make


def change_audio(chance: Random, seed: Seed) -> bytes:
    """Mostly the numbers of the header; sometimes bytes anywhere. Pages of Ogg mostly get the right checksum."""
    content = mutate.set_fields(chance, seed.content, seed.fields) if chance.random() < 0.7 else seed.content
    if content == seed.content or chance.random() < 0.1:
        content = mutate.damage(chance, content)
    return mutate.ogg_checksums(content) if seed.name.endswith(".ogg") and chance.random() < 0.8 else content


MOST_SAMPLES_A_BYTE = 10_000
"""FLAC codes a block of up to 65,535 equal samples in a dozen bytes."""


def read_audio_file(folder: Path, seed: Seed) -> str:
    """By the header, whole, in part, and one channel; what is not as long as stated is refused, as where data are read."""
    from joint_st.data.audio import audio_seconds, check_length, read_audio
    from joint_st.errors import UserError

    path = folder / seed.name
    seconds = audio_seconds(path)
    audio, rate, promised = read_audio(path)
    part, _, _ = read_audio(path, 0.05, 0.1)
    if audio.dtype != np.int16 or audio.ndim != 1 or rate < 1 or not math.isfinite(seconds) or seconds < 0:
        return f"{audio.dtype} {audio.shape} at {rate} Hz, {seconds} s"
    if len(audio) > MOST_SAMPLES_A_BYTE * path.stat().st_size:
        return f"{len(audio)} samples in {path.stat().st_size} bytes"
    if len(part) > round(0.1 * rate):
        return f"{len(part)} samples in 0.1 s at {rate} Hz"
    check_length(path, len(audio) / rate, seconds if promised is None else promised, 0.05)
    for asked in (99, 1):  # which there is not, or hardly
        with contextlib.suppress(UserError):
            read_audio(path, 0.0, None, (asked,))
    one, _, _ = read_audio(path, 0.0, None, (0, 1) if path.stem.endswith("_2") else (0,))
    return "" if len(one) == len(audio) else f"one channel has {len(one)} samples, all have {len(audio)}"


def audio_readers(*containers: str) -> dict[str, tuple[str, ...]]:
    """What reads audio, with what looks at a kind of container."""
    own = ("read_audio", "audio_seconds", "_mono", "_Sndfile.blocks", "_open", "_structure")
    return {"joint_st.data.audio": own, "joint_st.data.containers": ("examine", "format_of", *containers)}


def other_seeds(folder: Path) -> list[Seed]:
    """AIFF, AU, W64 and NIST's SPHERE; numbers anywhere in the first bytes."""
    seeds = []
    for form, suffix, size in (("AIFF", "aiff", 4), ("AU", "au", 4), ("W64", "w64", 8), ("NIST", "sph", 1)):
        content = _encoded(form, "PCM_16")
        fields = [Field(at, size, form in ("AIFF", "AU")) for at in range(0, 112, size)]
        seeds.append(Seed(f"a.{suffix}", content, fields))
    return seeds


# Text.


def manifest_seeds(folder: Path) -> list[Seed]:
    """A manifest of three utterances with all keys that mean something."""
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, np.tile(_speech(0.5)[:, None], (1, 1 + (name == "b.wav"))), RATE)
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
    """Values and keys of its lines, and its lines."""
    return mutate.json_lines(chance, seed.content)


def read_manifest(folder: Path, seed: Seed) -> str:
    """Every line's entry and its utterance."""
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
    """A file of sentences."""
    return [Seed("t.txt", "\ufeffone two\n\nthree\u2028four\r\n  five \nsix".encode())]


def read_texts(folder: Path, seed: Seed) -> str:
    """Every sentence."""
    from joint_st.config import TextSource
    from joint_st.data.sources.text import Sentences

    corpus = Sentences(TextSource(path=str(folder / seed.name)))
    texts = [corpus.entry(i).text for i in range(len(corpus))] + [corpus[i].text for i in range(len(corpus))]
    return "" if all(isinstance(text, str) for text in texts) else "no text"


def change_lines(chance: Random, seed: Seed) -> bytes:
    """Lines and their tokens."""
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
    """A model of three orders, plain and gzipped."""
    return [Seed("lm.arpa", ARPA.encode()), Seed("lm.arpa.gz", ARPA.encode())]


def change_arpa(chance: Random, seed: Seed) -> bytes:
    """Lines and tokens; of the gzipped one sometimes the compressed bytes."""
    content = (
        seed.content if seed.name.endswith(".gz") and chance.random() < 0.3 else mutate.lines(chance, seed.content)
    )
    if not seed.name.endswith(".gz"):
        return content
    packed = gzip.compress(content, 1, mtime=0)
    return mutate.damage(chance, packed, len(packed)) if content is seed.content else packed


def plausible_model(model) -> str:
    """What of an n-gram model cannot be."""
    for n, of_order in enumerate(model.ngrams, 1):
        for ngram, (log_prob, backoff) in of_order.items():
            if len(ngram) != n or not all(ngram):
                return f"{ngram} among {n}-grams"
            if not (-99 <= log_prob <= 1e-3) or not math.isfinite(backoff):
                return f"{ngram}: {log_prob} {backoff}"
    return ""


def read_model(folder: Path, seed: Seed) -> str:
    """Whole."""
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
    """Numbers of the header and of the tables, cuts, and bytes anywhere."""
    if chance.random() < 0.6:
        return mutate.set_fields(chance, seed.content, seed.fields)
    return mutate.damage(chance, seed.content, len(seed.content) if chance.random() < 0.5 else 500)


# Configs and runs.


def _config() -> dict:
    return {
        "format": 2,
        "name": "small",
        "seed": 0,
        "data": {
            "train": [{"kind": "manifest", "path": "m.jsonl"}, {"kind": "tfds", "name": "x", "split": "train"}],
            "dev": [{"kind": "manifest", "path": "m.jsonl", "corpus": "c"}],
            "test": {"a": {"kind": "text", "path": "t.txt", "language": "en"}},
            "text": [{"kind": "text", "path": "t.txt"}],
            "units": {"kind": "characters"},
            "tokenizer": {"kind": "characters"},
            "batch_size": 8,
            "text_batch_size": 8,
        },
        "model": {"width": 32, "heads": 2, "features": {"mels": 16}},
        "spec_augment": {"frequency_width": 4},
        "optimizer": {"peak_learning_rate": 1e-3, "warmup_steps": 3},
        "training": {"steps": 10, "init": {"run": "other", "rename": {"a.*": "b.*"}}, "loggers": ["tensorboard"]},
        "losses": {"reconstruction": {"full_context": 0.5}, "consistency": {"weight": 0.1}},
        "parallel": {"data": -1},
    }


def config_seeds(folder: Path) -> list[Seed]:
    """Configs as people write them and as a run keeps them."""
    whole = json.dumps(_config()).encode()
    lm = {"format": 2, "kind": "language_model", "data": {"train": [{"kind": "text", "path": "t.txt"}]}}
    return [Seed("c.json", whole), Seed("run/config.json", whole), Seed("lm.json", json.dumps(lm).encode())]


def change_json(chance: Random, seed: Seed) -> bytes:
    """Values and keys of its tree."""
    return mutate.json_text(chance, seed.content)


def read_config(folder: Path, seed: Seed) -> str:
    """What is read is written, and read again the same."""
    from joint_st.config import Config, LmConfig, load, save

    kind = LmConfig if seed.name == "lm.json" else Config
    config = load(folder / seed.name, kind)
    save(config, folder / "again.json")
    return "" if load(folder / "again.json", kind) == config else "written and read again it is another"


def run_seeds(folder: Path) -> list[Seed]:
    """Every small file of a run."""
    scored = {
        "id": "u1", "split": "test", "head": "full_context", "decoder": "greedy", "seconds": 1.5, "speaker": "s",
        "reference": "one two", "hypothesis": "one", "words": 2, "insertions": 0, "deletions": 1, "substitutions": 0,
        "characters": 7, "character_errors": 4, "subsets": {}, "ops": [["equal", "one", "one"], ["delete", "two", ""]],
    }  # fmt: skip
    head = "step,epoch,loss,learning_rate,gradient_norm,dev_full_context_wer\n"
    files = {
        "config.json": json.dumps(_config()),
        "tokenizer/tokenizer.json": json.dumps({"kind": "characters", "characters": list(" abcdeé")}),
        "units/units.json": json.dumps({"kind": "characters"}),
        "units/tokenizer.json": json.dumps({"kind": "characters", "characters": list(" abc")}),
        "vocabulary.json": json.dumps({"heard": ["one"], "read": ["two"]}),
        "languages.json": json.dumps(["", "en"]),
        "metrics.csv": head + "10,0,3.5,0.001,1.5,\n20,1,nan,0.001,inf,0.5\n",
        "checkpoints/20/facts/metadata": json.dumps({"normalizer": "basic v1", "step": 20, "wer": 0.5, "data": "x"}),
        "evaluations/step_20_test.jsonl": 2 * (json.dumps(scored) + "\n"),
    }
    for name, content in files.items():
        place = folder / "run" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
    return [Seed(f"run/{name}", content.encode()) for name, content in files.items()]


def change_run(chance: Random, seed: Seed) -> bytes:
    """Change one file of a run in the way of its format: lines, JSON or text."""
    if seed.name.endswith(".csv"):
        return mutate.lines(chance, seed.content.replace(b",", b" ")).replace(b" ", b",")
    change = mutate.json_lines if seed.name.endswith(".jsonl") else mutate.json_text
    return change(chance, seed.content)


def read_run(folder: Path, seed: Seed) -> str:
    """What of a run is read without its weights: inventories, words, facts, stored hypotheses, curves."""
    from joint_st.config import load
    from joint_st.data.symbols import load_languages
    from joint_st.data.text_units import load_units
    from joint_st.data.tokenizers import load_tokenizer
    from joint_st.data.vocabulary import Vocabulary
    from joint_st.evaluation.report import by_key, make_rows, read_utterances
    from joint_st.losses.base import Column
    from joint_st.reports.charts import training_charts
    from joint_st.runs.directory import existing_run

    if not (folder / seed.name).stat().st_size:  # an empty one stands for none
        (folder / seed.name).unlink()
    run = existing_run(folder / "run")
    load(run.config)
    labels, units = load_tokenizer(run.tokenizer), load_units(run.units)
    for inventory in (labels, units):
        found = inventory.encode("a b")
        if len(found) != 3 or not all(0 < one < inventory.size for one in found.tolist()):
            return f"{found} of {inventory.size}"
    if not isinstance(labels.decode([2, 0]), str):
        return "decodes to no text"
    vocabulary = Vocabulary.load(run.root)
    if not all(isinstance(word, str) for word in vocabulary.heard | vocabulary.read):
        return "a word that is no text"
    languages = load_languages(run.root)
    if not all(isinstance(tag, str) for tag in languages) or languages[0]:
        return f"languages {languages}"
    run.best_steps()
    if not run.evaluations.joinpath("step_20_test.jsonl").exists():
        return ""
    found = by_key(read_utterances(run.evaluations / "step_20_test.jsonl"))
    for utterances in found.values():
        make_rows(utterances, normalizer="basic v1", step=20, samples=100)
        if not all(math.isfinite(one.seconds) and one.seconds >= 0 for one in utterances):
            return "seconds that are none"
    for chart in training_charts(run.metrics, [Column("loss", "Loss"), Column("gradient_norm", "Norm")]):
        for series in chart["series"]:
            if not all(math.isfinite(number) for point in series["points"] for number in point):
                return f"a curve with {series['points']}"
    return ""


def piece_seeds(folder: Path) -> list[Seed]:
    """A tokenizer of wordpieces."""
    import sentencepiece

    model = io.BytesIO()
    words = ["one two three", "four five six seven", "the old ship sailed", "one ship", "two old ships"] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, vocab_size=28, pad_id=0, pad_piece="<blank>", unk_id=1,
        bos_id=-1, eos_id=-1, normalization_rule_name="identity", minloglevel=3,
    )  # fmt: skip
    (folder / "tokenizer").mkdir()
    described = {"kind": "sentencepiece", "model": "tokenizer.model"}
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(described))
    content = model.getvalue()
    fields = [Field(at, 1) for at in range(len(content))]
    return [Seed("tokenizer/tokenizer.model", content, fields)]


def change_pieces(chance: Random, seed: Seed) -> bytes:
    """Bytes and lengths anywhere, for its messages are nested."""
    if chance.random() < 0.5:
        return mutate.set_fields(chance, seed.content, seed.fields)
    return mutate.damage(chance, seed.content, len(seed.content))


def read_pieces(folder: Path, seed: Seed) -> str:
    """The inventory, and a text there and back."""
    from joint_st.data.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    for text in ("one two", "", "zzz é", "seven ships"):
        found = tokenizer.encode(text)
        if not all(0 < one < tokenizer.size for one in found.tolist()):
            return f"{text!r}: {found} of {tokenizer.size}"
        if not isinstance(tokenizer.decode(found), str):
            return "no text"
    return "" if len(tokenizer.symbols()) == tokenizer.size else "other symbols"


def transcript_seeds(folder: Path) -> list[Seed]:
    """Transcripts of a few utterances in each format, two of which have to be told by their content."""
    rows = [
        {"id": "a", "text": "one two"},
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
    """Lines and tokens, or values and keys."""
    return (mutate.json_lines if "json" in seed.name else mutate.lines)(chance, seed.content)


def read_transcript_file(folder: Path, seed: Seed) -> str:
    """By its ending or its content, or, where neither tells, as its format is named."""
    from joint_st.evaluation.transcript_files import HYPOTHESIS_KEYS, by_segment, read_transcripts

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


_ALL = (
    Kind("WAV", audio_readers("_wav", "_after"), wav_seeds, change_audio, read_audio_file, "audio"),
    Kind("FLAC", audio_readers("_flac"), flac_seeds, change_audio, read_audio_file, "audio"),
    Kind("MP3", audio_readers("_mp3", "_mpeg_frame", "_counted_frames", "_resync"), mp3_seeds, change_audio, read_audio_file, "audio"),
    Kind("Ogg Opus", audio_readers("_ogg"), ogg_seeds("OGG", "OPUS"), change_audio, read_audio_file, "audio"),
    Kind("Ogg Vorbis", audio_readers("_ogg"), ogg_seeds("OGG", "VORBIS"), change_audio, read_audio_file, "audio"),
    Kind("other audio", audio_readers("_aiff", "_au", "_nist", "_w64"), other_seeds, change_audio, read_audio_file, "audio"),
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
    Kind(
        "ARPA", {"joint_st.lm.arpa": ("read_arpa", "_open", "_parse", "_ngram")}, arpa_seeds, change_arpa, read_model
    ),
    Kind(
        "KenLM tries",
        {"joint_st.lm.kenlm": ("is_kenlm", "read_kenlm", "_read_trie", "_bits", "read_ngrams")},
        kenlm_seeds,
        change_kenlm,
        read_model,
    ),
    Kind(
        "transcripts",
        {"joint_st.evaluation.transcript_files": ()},
        transcript_seeds,
        change_transcripts,
        read_transcript_file,
    ),
    Kind(
        "config JSON",
        {
            "joint_st.config.file": ("save", "_says_language_model", "_from_json", "_migrated"),
            "joint_st.config.problems": ("explain", "one_line", "shown", "_root", "_lines", "_line", "_type_at", "_dotted"),
        },
        config_seeds,
        change_json,
        read_config,
    ),
    Kind(
        "files of a run",
        {
            "joint_st.data.tokenizers": ("Characters.encode", "Characters.decode", "load_tokenizer"),
            "joint_st.data.text_units": ("load_units",),
            "joint_st.data.vocabulary": ("Vocabulary.load",),
            "joint_st.data.symbols": ("load_languages",),
            "joint_st.evaluation.report": ("ScoredUtterance.from_record", "read_utterances"),
            "joint_st.reports.charts": ("training_charts", "_charts", "_curve"),
            "joint_st.runs.directory": ("RunDirectory.best_steps", "RunDirectory.checkpoint_steps"),
        },
        run_seeds,
        change_run,
        read_run,
        "runs",
    ),
    Kind(
        "SentencePiece models",
        {"joint_st.data.tokenizers": ("Wordpieces.__init__", "Wordpieces.encode", "Wordpieces.decode", "load_tokenizer")},
        piece_seeds,
        change_pieces,
        read_pieces,
        "runs",
    ),
)  # fmt: skip
KINDS = tuple(kind for kind in _ALL if all(map(importlib.util.find_spec, kind.readers)))
"""All kinds whose readers there are, in the order in which they are tried."""


def kind(name: str) -> Kind:
    """Return the kind of a name."""
    return next(one for one in KINDS if one.name == name)

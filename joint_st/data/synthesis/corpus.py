"""`joint-st data synthesize`: a folder of synthetic speech of a text, with its manifest.

What an utterance sounds like depends on the seed, the number of its sentence and the sentence alone, and its audio file
has a hash of these in its name. So a command that was stopped goes on where it was, in any number of threads, and a
file of another sentence is never taken for it.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import tqdm

from joint_st import storage
from joint_st.config import load, parse_source
from joint_st.data.audio import UnreadableAudio, read_audio
from joint_st.data.corpora.spoken_grammar.voices import VARIANTS
from joint_st.data.espeak import data_folder
from joint_st.data.sources import Concatenated, open_source
from joint_st.data.synthesis.speaking import SAMPLE_RATE, WORKERS, Manner, Speakers, digitise, in_order, place, say
from joint_st.data.text_units.phonemizer import find_voice, phonemizer
from joint_st.errors import UserError
from joint_st.json_files import NOT_JSON

FORMAT = 1
"""Number that stands for how the samples of an utterance are made; files of another number are made again."""

MANNER = Manner(rates=(130, 200), pitches=(25, 75))
"""How sentences are spoken. Wider than in `spoken_grammar`, because it should cover the people of a real test set."""

USUAL_VARIANTS = VARIANTS["train"]
"""Speaker variants by default. Those of `spoken_grammar`'s dev and test splits are left out, so that a model never hears
them in training."""

MANIFEST = "manifest.jsonl"

A_FOLDER = 1000
"""Number of sentences whose audio shares a folder."""


class _Sentence(NamedTuple):
    """A sentence to speak."""

    number: int
    text: str
    language: str
    """BCP 47 tag."""
    voice: str
    """Identifier of espeak-ng's voice, with the speaker variant."""


class Synthesized(NamedTuple):
    """The outcome of a synthesis."""

    manifest: Path
    utterances: int
    seconds: float
    """Length of all the audio."""
    made: int
    """Number of utterances that were not there before."""
    silent: int
    """Number of sentences for which espeak-ng makes no sound."""
    others: int
    """Number of audio files in the folder that the manifest does not name."""

    def __str__(self) -> str:
        line = (
            f"{storage.printable(self.manifest)}: {self.utterances} utterances, {self.seconds / 3600:.2f} h; "
            f"{self.made} made, {self.utterances - self.made} kept"
        )
        if self.silent:
            line += f"; {self.silent} sentences left out, in which espeak-ng finds nothing to say"
        if self.others:
            line += f"; {self.others} audio files of an earlier command are not in it"
        return line


def synthesize(
    source: str,
    out: Path,
    *,
    language: str = "",
    most: int = 0,
    seed: int = 0,
    variants: Sequence[str] = (),
    workers: int = WORKERS,
) -> Synthesized:
    """Speak the sentences of a source into a folder: `audio/`, 16 kHz FLAC, and `manifest.jsonl`, which is written last.

    source: a text source written short (`text:FILE`, the path of a manifest), or a config, whose `data.text` is taken.
    language: tag of the sentences that state none; by default `data.units.language` of a config. most: number of
    sentences, drawn from all of them; a larger number keeps those of a smaller one; 0: all. variants: speaker variants
    of espeak-ng to draw from; `USUAL_VARIANTS` where there are none. Audio files that are there and whole are kept.
    Raises `UserError`, with the place of the sentence, where a language is missing or espeak-ng does not have it.
    """
    _check_out(out)
    variants = _existing_variants(variants or USUAL_VARIANTS)
    corpus, default, where = _open(source, language)
    numbers = np.arange(len(corpus))
    if most:
        numbers = np.sort(np.random.default_rng(seed).permutation(len(corpus))[:most])
    bar = tqdm.tqdm(numbers.tolist(), desc="speaking", unit=" sentences", delay=1, leave=False, disable=None)
    sentences = _sentences(corpus, bar, default, where, seed, variants)
    speakers, version = Speakers(), phonemizer().version
    lines, seconds, made, silent = [], 0.0, 0, 0

    def speak(sentence: _Sentence) -> tuple[_Sentence, str, float, bool]:
        """Return a sentence, the path of its audio in the folder, how long it is, and whether it was made now; an empty
        path where there is nothing to hear."""
        told = json.dumps([FORMAT, version, seed, *sentence])
        name = f"{sentence.number:06d}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.flac"
        path = f"audio/{sentence.number // A_FOLDER:03d}/{name}"
        if length := _seconds(out / path):
            return sentence, path, length, False
        audio = _speak(speakers, sentence, seed)
        if not len(audio):
            return sentence, "", 0.0, False
        content = io.BytesIO()
        soundfile.write(content, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        _write(out / path, content.getvalue())
        return sentence, path, len(audio) / SAMPLE_RATE, True

    for sentence, path, length, new in in_order(speak, sentences, workers):
        if not path:
            silent += 1
            continue
        lines.append(json.dumps(_line(sentence, path, length), ensure_ascii=False) + "\n")
        seconds += length
        made += new
    if not lines:
        raise UserError(f"{source}: espeak-ng finds nothing to say in its {silent} sentences; correct the source")
    _write(out / MANIFEST, "".join(lines))
    others = sum(1 for _ in (out / "audio").glob("*/*.flac")) - len(lines)
    return Synthesized(out / MANIFEST, len(lines), seconds, made, silent, others)


def _check_out(out: Path) -> None:
    """Raise `UserError` where a folder cannot take synthetic speech: it is in a bucket, or holds other speech."""
    if storage.is_remote(out):
        raise UserError(f"{out}: audio is read from disks; give a folder on one")
    manifest = out / MANIFEST
    if not manifest.is_file():
        return
    with open(manifest, "rb") as file:
        first = file.readline()
    try:
        ours = json.loads(first)["synthetic"] is True
    except (ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise UserError(f"{storage.printable(manifest)}: not of synthetic speech; give another folder as --out")


def _existing_variants(names: Sequence[str]) -> tuple[str, ...]:
    """Return speaker variants, each once; raises `UserError` for one that espeak-ng does not have."""
    known = sorted(file.name for file in (data_folder() / "voices" / "!v").iterdir())
    for name in names:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0))
            raise UserError(f"--voices: espeak-ng has no speaker variant {name!r}, perhaps {near}; correct the name")
    return tuple(dict.fromkeys(names))


def _open(source: str, language: str) -> tuple[Concatenated, str, str]:
    """Return the sentences of a source or of a config, the tag of those that state no language, and where it is
    stated."""
    if not _is_config(source):
        return Concatenated([open_source(parse_source(source))]), language, "--language"
    data = load(source).data
    if not data.text:
        raise UserError(f"{source}: its data.text names no source; add one, or give a source such as text:FILE")
    corpora = Concatenated([open_source(one) for one in data.text])
    return corpora, language or data.units.language, "--language" if language else "data.units.language"


def _is_config(source: str) -> bool:
    """Return whether a source is a config file or the directory of a run."""
    if ":" in source and "://" not in source:  # `text:FILE`
        return False
    path = storage.path(source)
    return path.suffix == ".py" or path.is_dir() or path.suffix == ".json" and not _is_manifest(path)


def _is_manifest(path: Path) -> bool:
    """Return whether the first line of a file is that of a manifest, whatever the end of the file's name."""
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline())
    except (OSError, *NOT_JSON):
        return False
    return isinstance(first, dict) and "audio_filepath" in first


def _sentences(
    corpus: Concatenated, numbers: Iterator[int], default: str, where: str, seed: int, variants: Sequence[str]
) -> Iterator[_Sentence]:
    """Yield the sentences with these numbers, each with the voice that speaks it."""
    voices: dict[str, str] = {}
    for number in numbers:
        entry = corpus.entry(number)
        stated = entry.language.strip()
        tag = stated or default
        if not tag:
            raise UserError(f"{corpus.where(number)}: states no language; add --language TAG (BCP 47)")
        if tag not in voices:
            place = f"{corpus.where(number)}: language" if stated else where
            voices[tag] = find_voice(tag, default, phonemizer().voices, place)
        variant = variants[int(_generator(seed, number).integers(len(variants)))]
        yield _Sentence(number, entry.text, tag, f"{voices[tag]}+{variant}")


def _generator(seed: int, number: int, purpose: int = 0) -> np.random.Generator:
    """Return random numbers for a sentence: those of its voice, or of another purpose."""
    return np.random.default_rng([seed, number, purpose])


def _speak(speakers: Speakers, sentence: _Sentence, seed: int) -> np.ndarray:
    """Return a sentence's audio at `SAMPLE_RATE`, int16 [samples]; no samples where there is nothing to hear."""
    rng = _generator(seed, sentence.number, 1)
    text = sentence.text.replace("\0", " ")  # which would end it
    speech = say(rng, speakers.synthesizer, text, sentence.voice, MANNER)
    if not speech.audio.any():
        return np.zeros(0, np.int16)
    audio, _ = place(rng, speech, MANNER)
    return digitise(rng, audio)


def _seconds(path: Path) -> float:
    """Return the length of an audio file that this module wrote; 0 where there is none, or not all of it."""
    if not path.exists():
        return 0.0
    try:
        audio, rate, promised = read_audio(path)
    except UnreadableAudio:
        return 0.0
    whole = rate == SAMPLE_RATE and promised is not None and len(audio) == round(promised * rate)
    return len(audio) / rate if whole else 0.0


def _line(sentence: _Sentence, path: str, seconds: float) -> dict:
    return {
        "id": f"synthetic-{sentence.number:06d}",
        "audio_filepath": path,
        "duration": seconds,
        "text": sentence.text,
        "speaker": sentence.voice,
        "language": sentence.language,
        "synthetic": True,
    }


def _write(path: Path, content: str | bytes) -> None:
    try:
        storage.write_whole(path, content)
    except OSError as error:
        raise UserError(
            f"{storage.printable(error.filename or path)}: {error.strerror}; correct that, and give the same command "
            "again: what is there is kept"
        ) from None

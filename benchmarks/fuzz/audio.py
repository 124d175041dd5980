"""Audio files: their headers, containers and frames."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from benchmarks.fuzz import mutate
from benchmarks.fuzz.kind import Kind, Seed
from benchmarks.fuzz.mutate import Field

RATE = 8000
"""Hz of the audio that is mutated: it is a third of a second long."""


def speech(seconds: float = 0.3) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def _encoded(form: str, subtype: str | None = None, channels: int = 1, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.tile(speech()[:, None], (1, channels)), rate, format=form, subtype=subtype)
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
    """Return files with one and two channels, 16 and 24 bits; the fields are those of STREAMINFO and of the first
    frames."""
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
    """Change mostly numbers of the header, sometimes bytes anywhere. Pages of Ogg mostly get the right checksum."""
    content = mutate.set_fields(chance, seed.content, seed.fields) if chance.random() < 0.7 else seed.content
    if content == seed.content or chance.random() < 0.1:
        content = mutate.damage(chance, content)
    return mutate.ogg_checksums(content) if seed.name.endswith(".ogg") and chance.random() < 0.8 else content


MOST_SAMPLES_A_BYTE = 10_000
"""FLAC codes a block of up to 65,535 equal samples in a dozen bytes."""


def read_audio_file(folder: Path, seed: Seed) -> str:
    """By the header, whole, in part, and one channel; what is not as long as stated is refused, as where data are
    read."""
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
    """Return the modules that read audio, including the one for a kind of container."""
    own = (
        "read_audio",
        "_samples",
        "audio_seconds",
        "mono",
        "_Sndfile.blocks",
        "sndfile_blocks",
        "_open",
        "_structure",
    )
    return {"joint_st.data.audio": own, "joint_st.data.containers": ("examine", "format_of", *containers)}


def other_seeds(folder: Path) -> list[Seed]:
    """AIFF, AU, W64 and NIST's SPHERE; numbers anywhere in the first bytes."""
    seeds = []
    for form, suffix, size in (("AIFF", "aiff", 4), ("AU", "au", 4), ("W64", "w64", 8), ("NIST", "sph", 1)):
        content = _encoded(form, "PCM_16")
        fields = [Field(at, size, form in ("AIFF", "AU")) for at in range(0, 112, size)]
        seeds.append(Seed(f"a.{suffix}", content, fields))
    return seeds


KINDS = (
    Kind("WAV", audio_readers("_wav", "_one_wav", "_begins_wav"), wav_seeds, change_audio, read_audio_file, "audio"),
    Kind("FLAC", audio_readers("_flac"), flac_seeds, change_audio, read_audio_file, "audio"),
    Kind(
        "MP3",
        audio_readers("_mp3", "_mpeg_frame", "_counted_frames", "_resync"),
        mp3_seeds,
        change_audio,
        read_audio_file,
        "audio",
    ),
    Kind("Ogg Opus", audio_readers("_ogg"), ogg_seeds("OGG", "OPUS"), change_audio, read_audio_file, "audio"),
    Kind("Ogg Vorbis", audio_readers("_ogg"), ogg_seeds("OGG", "VORBIS"), change_audio, read_audio_file, "audio"),
    Kind(
        "other audio",
        audio_readers("_aiff", "_au", "_nist", "_w64"),
        other_seeds,
        change_audio,
        read_audio_file,
        "audio",
    ),
)

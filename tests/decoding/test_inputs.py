"""Input through a pipe: raw samples, or a file that is decoded as it would be from a disk."""

from __future__ import annotations

import io
import os
import threading

import numpy as np
import pytest
import soundfile
import soxr

from joint_st.data.audio import UnreadableAudio
from joint_st.decoding.inputs import AudioFiles, piped_audio
from joint_st.errors import UserError

RATE = 16_000
TONE = (9000 * np.sin(np.arange(RATE) / 9)).astype(np.int16)


def encoded(form="WAV", subtype="PCM_16", audio=TONE, rate=RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, subtype=subtype)
    return file.getvalue()


def heard(content: bytes, form=None, rate=None) -> np.ndarray:
    none = np.zeros(0, np.int16)
    return np.concatenate([none, *piped_audio(io.BytesIO(content), form, rate, RATE, 320, 0.3)])


def test_raw_samples_are_taken_as_they_are(capsys):
    np.testing.assert_array_equal(heard(TONE.tobytes()), TONE)
    told = capsys.readouterr().err
    assert told == "standard input: raw samples, int16 and mono, at 16000 Hz (--stdin file for an audio file)\n"
    np.testing.assert_array_equal(heard(TONE.tobytes() + b"x", "raw"), TONE)
    assert capsys.readouterr().err == "standard input: raw samples, int16 and mono, at 16000 Hz\n"
    half = heard(TONE[::2].tobytes(), rate=RATE // 2)
    assert len(half) == len(TONE) and np.abs(half[500:-500] - TONE[500:-500].astype(int)).max() < 30


@pytest.mark.parametrize("form", [None, "raw", "file"])
def test_an_empty_pipe_is_refused(form, capsys):
    with pytest.raises(UserError, match="^standard input: empty; see why the program that should write audio into it"):
        heard(b"", form)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form, subtype", [("WAV", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "FLOAT")])
def test_a_file_is_decoded(form, subtype, capsys):
    audio = TONE / 32768 if subtype == "FLOAT" else TONE
    np.testing.assert_array_equal(heard(encoded(form, subtype, audio)), TONE)
    told = capsys.readouterr().err
    assert told == f"standard input: an audio file ({form}) (--stdin raw for samples alone)\n"


def test_samples_that_are_no_numbers_are_refused():
    wav = encoded("WAV", "FLOAT", np.where(np.arange(RATE) == 9000, np.nan, TONE / 32768))
    with pytest.raises(UnreadableAudio, match="standard input: holds samples that are not finite"):
        heard(wav)


def test_rate_and_channels_are_those_of_the_file(capsys):
    other = soxr.resample(TONE.astype(np.float32), RATE, 44_100)
    both = np.stack([other, other], axis=1).astype(np.int16)
    found = heard(encoded(audio=both, rate=44_100))
    assert len(found) == len(TONE)
    assert np.abs(found[500:-500].astype(int) - TONE[500:-500]).max() < 30
    assert capsys.readouterr().err.endswith("\njoint-st: 1 file with several channels: their mean is heard\n")
    with pytest.raises(UserError, match="--rate 8000: standard input is an audio file, which has a rate of its own"):
        heard(encoded(), rate=8000)


def test_the_flag_decides_against_the_looks(capsys):
    raw = heard(encoded(), "raw")
    np.testing.assert_array_equal(raw[22:], TONE)
    with pytest.raises(UnreadableAudio, match="standard input: "):
        heard(TONE.tobytes(), "file")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_of_unknown_size_is_read_to_its_end(size, capsys):
    wav = encoded()
    at = wav.find(b"data") + 4
    np.testing.assert_array_equal(heard(wav[:at] + size.to_bytes(4, "little") + wav[at + 4 :]), TONE)


def test_a_wav_that_ends_early_is_told(capsys):
    found = heard(encoded()[:-20_000])
    np.testing.assert_array_equal(found, TONE[:-10_000])
    assert "standard input: 0.375 s long, where its header says 1.000 s" in capsys.readouterr().err
    with pytest.raises(UnreadableAudio, match="standard input: "):
        heard(encoded("OGG", "VORBIS")[:-500])


def with_sizes(wav: bytes, of_file: int, of_data: int) -> bytes:
    """Return a WAV file that states these numbers of bytes, after its first 8 and for its samples."""
    at = wav.find(b"data") + 4
    return wav[:4] + of_file.to_bytes(4, "little") + wav[8:at] + of_data.to_bytes(4, "little") + wav[at + 4 :]


def test_what_follows_the_data_of_an_empty_wav_is_no_audio(capsys):
    empty = encoded(audio=TONE[:0])
    note = b"LIST" + (100).to_bytes(4, "little") + 50 * b"\1\2"
    assert len(heard(with_sizes(empty + note, len(empty + note) - 8, 0))) == 0
    # A program that cannot seek back may state the size that an empty file would have.
    np.testing.assert_array_equal(heard(with_sizes(encoded(), len(empty) - 8, 0)), TONE)


def after_its_first_chunks(wav: bytes, more: bytes) -> bytes:
    at = wav.find(b"data")
    return wav[:at] + more + wav[at:]


@pytest.mark.parametrize("size", [0, 2 * RATE, 0xFFFFFFFF])
def test_samples_may_begin_after_a_long_header(size, capsys):
    notes = b"JUNK" + (9001).to_bytes(4, "little") + b"data" + bytes(8998)
    wav = after_its_first_chunks(encoded(), notes)
    at = wav.rfind(b"data") + 4
    np.testing.assert_array_equal(heard(wav[:at] + size.to_bytes(4, "little") + wav[at + 4 :]), TONE)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("between", [b"", b"LIST\x05\0\0\0INFOa\0"])
def test_a_second_wav_is_told(between, capsys):
    np.testing.assert_array_equal(heard(encoded() + between + encoded()), TONE)
    told = "joint-st: standard input: another WAV follows the 1.000 s of the first one and is not heard"
    assert told in capsys.readouterr().err
    np.testing.assert_array_equal(heard(encoded() + between), TONE)
    assert "another" not in capsys.readouterr().err


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_a_coded_wav_is_heard_as_from_a_disk(subtype, tmp_path):
    (tmp_path / "a.wav").write_bytes(wav := encoded(subtype=subtype))
    [(_, audio)] = AudioFiles([tmp_path / "a.wav"]).read(RATE, 0.3)
    assert len(audio) >= RATE
    np.testing.assert_array_equal(heard(wav), audio)


def test_a_consumer_may_stop_at_any_time():
    failed = []
    threading.excepthook, before = failed.append, threading.excepthook
    try:
        wav = encoded("WAV", "FLOAT", np.where(np.arange(8 * RATE) == 90, np.nan, 0.1))
        with pytest.raises(UnreadableAudio, match="not finite"):
            heard(wav)
        for thread in threading.enumerate():
            if thread.name.endswith("(_write)") or thread.name.endswith("(_pump)"):
                thread.join(10)
    finally:
        threading.excepthook = before
    assert not failed


@pytest.mark.parametrize("subtype, told", [("PCM_16", True), ("DOUBLE", False)])
def test_a_long_wav_that_ends_early_is_told(subtype, told, capsys):
    wav = encoded("WAV", subtype, TONE if subtype == "PCM_16" else TONE / 32768)
    stated = 300_000_000 * (2 if subtype == "PCM_16" else 8)
    np.testing.assert_array_equal(heard(with_sizes(wav, min(stated, 2**32 - 1), min(stated, 2**32 - 8))), TONE)
    assert ("1.000 s long, where its header says 18750.000 s" in capsys.readouterr().err) == told


def test_a_wav_is_heard_while_it_comes():
    reading, writing = os.pipe()
    wav, going = encoded(audio=np.tile(TONE, 4)), threading.Event()

    def write():
        with open(writing, "wb") as out:
            out.write(wav[: len(wav) // 2])
            out.flush()
            going.wait(20)
            out.write(wav[len(wav) // 2 :])

    threading.Thread(target=write, daemon=True).start()
    with open(reading, "rb") as pipe:
        pieces = piped_audio(pipe, None, None, RATE, 320, 0.3)
        first = [next(pieces) for _ in range(4)]
        assert sum(map(len, first)) == 4 * 5120
        going.set()
        np.testing.assert_array_equal(np.concatenate([*first, *pieces]), np.tile(TONE, 4))


def test_files_whose_channels_are_averaged_are_counted_once(tmp_path, capsys):
    for name, channels in (("a", 2), ("b", 1), ("c", 3)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([TONE] * channels, axis=1), RATE)
    files = AudioFiles([tmp_path / f"{name}.wav" for name in "abc"])
    for _, audio in files.read(RATE, 0.3):
        np.testing.assert_array_equal(audio, TONE)
    assert capsys.readouterr().err == "joint-st: 2 files with several channels: their mean is heard\n"
    list(AudioFiles([tmp_path / "b.wav"]).read(RATE, 0.3))
    assert capsys.readouterr().err == ""

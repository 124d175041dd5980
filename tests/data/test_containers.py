"""Audio files whose headers are wrong are read completely or refused in one line; they are never cut silently."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from joint_st.data import ffmpeg
from joint_st.data.audio import UnreadableAudio, audio_seconds, check_length, read_audio
from joint_st.data.containers import examine, format_of

RATE = 16000
TONE = (9000 * np.sin(np.arange(3 * RATE) / 9)).astype(np.int16)
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "sph": ("NIST", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
    "ogg": ("OGG", "VORBIS"),
}


def encoded(ending: str, audio=TONE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, RATE, format=KINDS[ending][0], subtype=KINDS[ending][1])
    return file.getvalue()


def unknown_length(flac: bytes) -> bytes:
    """Set the count of samples, 36 bits of STREAMINFO, to 0, as encoders do that write into a pipe."""
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


def without_count(mp3: bytes) -> bytes:
    """Remove the frame that counts the others."""
    at = mp3.find(b"Xing") if b"Xing" in mp3 else mp3.find(b"Info")
    start = mp3.rfind(b"\xff", 0, at)
    while mp3[start + 1] & 0xE0 != 0xE0:
        start = mp3.rfind(b"\xff", 0, start)
    following = mp3.find(mp3[start : start + 2], at)
    return mp3[:start] + mp3[following:]


def sized(wav: bytes, size: int, riff: int | None = None) -> bytes:
    """With another size of its data, and of the whole, in its header."""
    at = wav.find(b"data") + 4
    wav = wav[:at] + struct.pack("<I", size) + wav[at + 4 :]
    return wav if riff is None else wav[:4] + struct.pack("<I", riff) + wav[8:]


@pytest.fixture(params=["libsndfile", "FFmpeg"])
def decoders(request, monkeypatch):
    """The available decoders: libsndfile alone, or FFmpeg too."""
    if request.param == "libsndfile":
        monkeypatch.setattr(ffmpeg, "available", lambda: False)
    elif not ffmpeg.available():
        pytest.skip("no PyAV")
    return request.param


def read(path) -> tuple[float, float | None]:
    """Seconds of a file, once it has passed the check of its own header."""
    audio, rate, promised = read_audio(path)
    if promised is not None:
        check_length(path, len(audio) / rate, promised, 0.3, by="its header")
    return len(audio) / rate


@pytest.mark.parametrize("ending", KINDS)
def test_whole_files_are_as_long_as_they_say(tmp_path, ending, decoders):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(encoded(ending))
    assert read(path) == pytest.approx(3.0, abs=1e-6)
    assert audio_seconds(path) == pytest.approx(3.0, abs=1e-6)
    assert format_of(path.read_bytes()) == KINDS[ending][0]
    found = examine(io.BytesIO(path.read_bytes()), KINDS[ending][0])
    for seconds in (found.promised, found.present):
        assert seconds is None or seconds == pytest.approx(3.0, abs=1e-6)


@pytest.mark.parametrize("share", [0.97, 0.5, 0.02])
@pytest.mark.parametrize("ending", KINDS)
def test_a_file_that_was_cut_is_refused(tmp_path, ending, share, decoders):
    path = tmp_path / f"a.{ending}"
    whole = encoded(ending)
    lost = 3.0 * (1 - share)
    path.write_bytes(whole[: int(len(whole) * share)])
    if lost > 0.3 or KINDS[ending][0] in ("OGG", "FLAC"):
        with pytest.raises(UnreadableAudio) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    else:
        assert read(path) == pytest.approx(3.0, abs=0.3)


@pytest.mark.parametrize("ending", ["mp3", "opus", "ogg", "flac", "wav"])
def test_files_one_behind_the_other_are_read_whole_or_refused(tmp_path, ending, decoders):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(2 * encoded(ending))
    if decoders == "FFmpeg" and ending != "wav":
        assert read(path) == pytest.approx(6.0, abs=0.2)
        return
    with pytest.raises(UnreadableAudio):
        read(path)


def test_many_wavs_one_behind_the_other_are_counted_and_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(1200 * encoded("wav", TONE[:161]))
    with open(path, "rb") as file:
        assert examine(file, "WAV").present == pytest.approx(1200 * 161 / RATE)
    with pytest.raises(UnreadableAudio):
        read_audio(path)


def test_mp3_whose_length_no_header_tells(tmp_path, decoders):
    """Its frames are counted, because libsndfile assumes the bitrate of the first ones for all."""
    noise = np.random.default_rng(0).normal(scale=9000, size=RATE)
    quiet = np.zeros(2 * RATE)
    for name, audio in (("loud_first", [noise, quiet]), ("quiet_first", [quiet, noise])):
        path, file = tmp_path / f"{name}.mp3", io.BytesIO()
        audio = np.concatenate(audio)
        kind = {"subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
        soundfile.write(file, audio.astype(np.int16), RATE, format="MP3", **kind)
        path.write_bytes(without_count(file.getvalue()))
        assert b"Info" not in path.read_bytes() and b"Xing" not in path.read_bytes()
        whole = len(audio) / RATE
        if name != "loud_first" or decoders == "FFmpeg":
            assert read(path) == pytest.approx(whole, abs=0.2)
        else:
            with pytest.raises(UnreadableAudio, match=r"holds 3.* s, of which its header says .*joint_st\[av\]"):
                read(path)


def test_sizes_that_a_recorder_did_not_write(tmp_path, decoders):
    wav = encoded("wav")
    path = tmp_path / "a.wav"
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        path.write_bytes(sized(wav, size, size))
        assert read(path) == audio_seconds(path) == 3.0
    path.write_bytes(sized(wav, 0))
    if decoders == "FFmpeg":
        assert read(path) == audio_seconds(path) == 3.0
    else:
        with pytest.raises(UnreadableAudio, match=r"holds 3.000 s, of which its header says 0.000 s .*joint_st\[av\]"):
            read(path)
    path.write_bytes(encoded("wav", TONE[:0]))
    assert read(path) == 0.0


@pytest.mark.parametrize("count", [0, 2**36 - 1, 10**10])
def test_memory_follows_what_is_there_and_not_the_header(tmp_path, count):
    flac = encoded("flac")
    bits = int.from_bytes(flac[21:26], "big") >> 36 << 36 | count
    path = tmp_path / "a.flac"
    path.write_bytes(flac[:21] + bits.to_bytes(5, "big") + flac[26:])
    audio, rate, promised = read_audio(path)
    np.testing.assert_array_equal(audio, TONE)
    if count == 0:
        assert promised is None and audio_seconds(path) == 3.0
        np.testing.assert_array_equal(read_audio(path, 1.0, 0.5).audio, TONE[RATE : RATE * 3 // 2])
    else:
        with pytest.raises(UnreadableAudio, match=r"[\d,]{14} samples in [\d,]+ bytes: its header is broken"):
            audio_seconds(path)
        assert promised is not None and promised > 1e5
        with pytest.raises(UnreadableAudio, match="3.000 s long, where its header says"):
            read(path)


def test_rates_of_broken_headers_are_refused(tmp_path):
    wav = encoded("wav")
    for rate in (1, 4_000_000_000):
        (tmp_path / "a.wav").write_bytes(wav[:24] + struct.pack("<II", rate, 2 * rate % 2**32) + wav[32:])
        with pytest.raises(UnreadableAudio, match=f"(sample rate of {rate} Hz|malformed|rate)"):
            read_audio(tmp_path / "a.wav")


def test_a_form_of_samples_that_nobody_knows_is_refused(tmp_path, decoders):
    wav = encoded("wav")
    (tmp_path / "a.wav").write_bytes(wav[:20] + b"\x34\x12" + wav[22:])
    for get in (read_audio, audio_seconds):
        with pytest.raises(UnreadableAudio):
            get(tmp_path / "a.wav")


def test_channels_that_a_broken_header_invents_are_refused(tmp_path, decoders):
    """FFmpeg accepts what libsndfile refuses, here 39 channels in 2 bytes, which crashed PyAV."""
    wav = encoded("wav")
    for channels in (39, 0, 0xFFFF):
        (tmp_path / "a.wav").write_bytes(wav[:22] + struct.pack("<H", channels) + wav[24:])
        with pytest.raises(UnreadableAudio):
            read_audio(tmp_path / "a.wav")


def test_an_mp3_that_ends_in_the_middle_of_a_frame_was_cut(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(without_count(encoded("mp3"))[:-50])
    with pytest.raises(UnreadableAudio, match="ends in the middle of a frame: it was cut"):
        read(path)


def test_tags_are_no_audio():
    mp3 = encoded("mp3")
    plain = examine(io.BytesIO(mp3), "MP3")
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + b"\xff\xfb\x90\x00" * 64
    tagged = examine(io.BytesIO(tag + mp3 + b"TAG" + bytes(125)), "MP3")
    assert tagged == plain


def test_raw_samples_are_of_no_format():
    random = np.random.default_rng(0)
    for scale in (1, 50, 3000):
        for _ in range(200):
            assert format_of(random.normal(scale=scale, size=2048).astype("<i2").tobytes()) == ""


@pytest.mark.parametrize("what", ["folder", "pipe", "none", "zero byte"])
def test_what_is_no_file_is_told(tmp_path, what):
    path = tmp_path / ("a\0b" if what == "zero byte" else "a.wav")
    if what == "folder":
        path.mkdir()
    if what == "pipe":
        os.mkfifo(path)
    expected = {"folder": "a folder, and no file", "pipe": "a pipe or a device"}.get(what, "no such file")
    for get in (read_audio, audio_seconds):
        with pytest.raises(UnreadableAudio, match=expected):
            get(path)


def test_a_name_in_any_encoding_is_read(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    with open(path, "wb") as file:
        file.write(encoded("wav"))
    assert read(path) == 3.0
    os.truncate(path, 30)
    with pytest.raises(UnreadableAudio, match=r"/caf\\xe9.wav: ") as caught:
        read(path)
    str(caught.value).encode()


def test_channels_are_chosen_by_number(tmp_path, decoders):
    both = np.stack([TONE, -TONE // 2], axis=1)
    soundfile.write(tmp_path / "a.wav", both, RATE)
    for channels, expected in (((0,), both[:, 0]), ((1,), both[:, 1]), ((1, 0), np.rint(both.mean(1)))):
        np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", channels=channels).audio, expected)
    with pytest.raises(UnreadableAudio, match="has 2 channels, and channel 2 is asked for; they count from 0"):
        read_audio(tmp_path / "a.wav", channels=(2,))


def test_ffmpeg_opens_nothing_that_a_file_names(tmp_path):
    """A playlist may name any file of the machine, or an address."""
    if not ffmpeg.available():
        pytest.skip("no PyAV")
    (tmp_path / "secret.wav").write_bytes(encoded("wav"))
    for content in ("ffconcat version 1.0\nfile secret.wav\n", "#EXTM3U\n#EXTINF:3,\nsecret.wav\n"):
        (tmp_path / "a.wav").write_text(content)
        with pytest.raises(UnreadableAudio):
            read_audio(tmp_path / "a.wav")


def test_length_is_checked_both_ways():
    check_length("a", 1.3, 1.0, 0.3 + 1e-9)
    for has, stated, hint in (
        (1.4, 1.0, "1.400 s long, where its source says 1.000 s"),
        (0.6, 1.0, "0.600 s long, where its source says 1.000 s"),
        (2.0, 32000.0, r"\(is it in samples\?\)"),
        (2.0, 2004.0, r"\(is it in milliseconds\?\)"),
        (0.0, 1.0, "0.000 s long"),
    ):
        with pytest.raises(UnreadableAudio, match=hint):
            check_length("a", has, stated, 0.3)

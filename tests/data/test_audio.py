import pickle

import numpy as np
import pytest
import soundfile

from joint_st.data import audio as audio_module
from joint_st.data import containers, ffmpeg
from joint_st.data.audio import UnreadableAudio, audio_seconds, in_measure, read_audio, resample, to_int16
from joint_st.errors import UserError


def sine(rate, seconds=1.0, hertz=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def signal_to_noise(found, expected):
    """Return the signal-to-noise ratio in dB."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    return 10 * np.log10(np.sum(expected**2) / np.sum((found - expected) ** 2))


@pytest.mark.parametrize(
    "format, subtype", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24")]
)
def test_lossless_files_give_the_samples_to_the_nearest(tmp_path, format, subtype):
    path = tmp_path / "a"
    soundfile.write(path, sine(16000), 16000, format=format, subtype=subtype)
    audio, rate, _ = read_audio(path)
    assert rate == 16000 and audio.dtype == np.int16
    np.testing.assert_allclose(audio, sine(16000) * 32768, atol=0.51 if subtype != "PCM_16" else 1)


def test_int16_samples_come_back_as_they_were(tmp_path):
    every = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", every, 8000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav")[0], every)


@pytest.mark.parametrize(
    "format, subtype, rate, decibel",
    [("OGG", "OPUS", 16000, 20), ("OGG", "VORBIS", 16000, 20), ("MP3", "MPEG_LAYER_III", 32000, 30)],
)
def test_lossy_files_give_nearly_the_samples(tmp_path, format, subtype, rate, decibel):
    path = tmp_path / "a"
    soundfile.write(path, sine(rate), rate, format=format, subtype=subtype)
    audio, found, _ = read_audio(path)
    assert found == rate
    inside = slice(rate // 10, rate * 9 // 10)
    assert signal_to_noise(audio[inside], 32768 * sine(rate)[inside]) > decibel


def test_float_files_are_clipped_not_wrapped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, 1.5, -1.5]), 8000, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav")[0].tolist() == [0, 32767, -32768]


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[100, 300], [-100, 101]], np.int16), 8000)
    assert read_audio(tmp_path / "a.wav")[0].tolist() == [200, 0]


def test_a_segment_is_cut_out(tmp_path):
    ramp = np.arange(8000).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", ramp, 8000)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac", 0.25, 0.5)[0], ramp[2000:6000])
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac", 0.25)[0], ramp[2000:])
    assert not len(read_audio(tmp_path / "a.flac", 3.0)[0])
    assert audio_seconds(tmp_path / "a.flac") == 1.0


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_sine(rate):
    audio = resample(to_int16(32768 * sine(rate)), rate, 16000)
    assert audio.dtype == np.int16 and len(audio) == 16000
    # 70 dB is what rounding to int16 twice leaves, with room; the ends see the silence outside.
    assert signal_to_noise(audio[1000:-1000], 32768 * sine(16000)[1000:-1000]) > 70


def test_resampling_removes_what_the_new_rate_cannot_hold():
    audio = resample(to_int16(32768 * sine(48000, hertz=11000)), 48000, 16000)
    assert np.abs(audio[1000:-1000]).max() <= 1


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("samples", [0, 1, 1000, 1001, 7777])
def test_resampling_never_gives_more_samples_than_the_length_says(rate, samples):
    assert len(resample(np.zeros(samples, np.int16), rate, 16000)) <= -(-samples * 16000 // rate)


@pytest.mark.parametrize("content", [b"", b"no audio at all", b"RIFF\x00\x00\x00\x00WAVEfmt "])
def test_an_unreadable_file_names_itself(tmp_path, content):
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    for read in (read_audio, audio_seconds):
        with pytest.raises(UnreadableAudio, match="broken.wav: ") as caught:
            read(path)
        assert isinstance(caught.value, UserError) and caught.value.path == str(path)
        assert "\n" not in str(caught.value)


def test_many_parts_of_one_file_examine_it_once(tmp_path, monkeypatch):
    rate, path, examined = 16_000, tmp_path / "long.mp3", []
    soundfile.write(path, np.sin(np.arange(10 * rate) / 20) / 2, rate, format="MP3")
    monkeypatch.setattr(audio_module, "examine", lambda *what: examined.append(what) or containers.examine(*what))
    audio_module._examined.cache_clear()
    for start in (0.5, 3.0, 7.25):
        assert len(read_audio(path, start, 1.0)[0]) == rate
    assert len(examined) == 1
    soundfile.write(path, np.sin(np.arange(5 * rate) / 20) / 2, rate, format="MP3")
    assert len(read_audio(path, 3.0, 1.0)[0]) == rate and len(examined) == 2


@pytest.mark.parametrize("step", ["_Sndfile", "_structure", "_examined"])
def test_a_file_that_is_removed_while_it_is_opened_is_not_there(tmp_path, monkeypatch, step):
    soundfile.write(tmp_path / "gone.flac", np.zeros(160), 16_000)
    true_step = getattr(audio_module, step)

    def removed_before(path, *more):
        (tmp_path / "gone.flac").unlink()
        return true_step(path, *more)

    monkeypatch.setattr(audio_module, step, removed_before)
    with pytest.raises(UnreadableAudio) as caught:
        read_audio(tmp_path / "gone.flac")
    assert caught.value.why == "no such file"


def test_a_missing_file_says_so_and_its_error_pickles(tmp_path):
    with pytest.raises(UnreadableAudio, match="no such file") as caught:
        read_audio(tmp_path / "none.flac")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.path, again.why) == (str(caught.value), caught.value.path, caught.value.why)


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(UnreadableAudio, match="not finite"):
        read_audio(tmp_path / "a.wav")


def test_an_offset_or_a_length_beyond_all_numbers_reads_what_there_is(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(800, np.int16), 8000)
    assert len(read_audio(tmp_path / "a.wav", 1e308).audio) == 0
    assert len(read_audio(tmp_path / "a.wav", 0.05, 1e308).audio) == 400


def test_more_audio_than_a_file_of_its_size_can_hold_is_refused(tmp_path):
    """The positions of an Ogg file's pages may say so; libsndfile has then filled the gap with 30 million samples."""
    place = tmp_path / "gap.ogg"
    soundfile.write(place, np.random.default_rng(0).normal(0, 0.1, 160_000), 16_000, format="OGG", subtype="OPUS")
    content = bytearray(place.read_bytes())
    page = content.index(b"OggS", content.index(b"OggS", 4) + 4)
    content[page + 6 : page + 14] = (-(2**60)).to_bytes(8, "little", signed=True)
    content[page + 22 : page + 26] = bytes(4)
    content[page + 22 : page + 26] = crc_of_ogg(content[page : content.index(b"OggS", page + 4)])
    place.write_bytes(content)
    with pytest.raises(UnreadableAudio, match=r"gap\.ogg: [\d,]{20,} samples in 31,\d+ bytes: its header is broken"):
        audio_seconds(place)
    block = np.zeros((1 << 18, 1), np.float32)
    blocks = in_measure(place, (block for _ in range(10_000)))
    with pytest.raises(UnreadableAudio, match=r"316,\d+,\d+ samples in 31,\d+ bytes"):
        for _ in blocks:
            pass


def crc_of_ogg(page: bytes) -> bytes:
    """The checksum of a page whose field for it is zero."""
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 * (crc >> 31)) & 0xFFFFFFFF
    return crc.to_bytes(4, "little")


def test_a_broken_ogg_file_of_which_nothing_is_decoded_is_not_sought_in(tmp_path):
    """libsndfile's decoder of Vorbis crashes the process where it seeks in one."""
    soundfile.write(tmp_path / "a.ogg", np.random.default_rng(0).normal(0, 0.1, 2400), 8000, subtype="VORBIS")
    whole = (tmp_path / "a.ogg").read_bytes()
    second = whole.index(b"OggS", 1)
    (tmp_path / "a.ogg").write_bytes(whole[: second + 14] + b"\x01" + whole[second + 15 :])  # another stream's number
    try:
        assert len(read_audio(tmp_path / "a.ogg", 0.05, 0.1).audio) >= 0
    except UnreadableAudio as error:
        assert str(tmp_path / "a.ogg") in str(error)


def pages_of(content: bytes) -> list[bytearray]:
    """The pages of an Ogg file."""
    at, pages = 0, []
    while at < len(content):
        table = content[at + 27 : at + 27 + content[at + 26]]
        pages.append(bytearray(content[at : at + 27 + len(table) + sum(table)]))
        at += len(pages[-1])
    return pages


def checksum(page: bytes) -> int:
    """An Ogg page's checksum, bit by bit as RFC 3533 has it."""
    remainder = 0
    for byte in (*page[:22], 0, 0, 0, 0, *page[26:]):
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ 0x04C11DB7 * (remainder >> 31)) & 0xFFFFFFFF
    return remainder


def test_an_ogg_file_whose_pages_state_other_positions_is_read_by_ffmpeg(tmp_path, monkeypatch):
    """FFmpeg writes such files; libsndfile opens them and gives up on the way."""
    pytest.importorskip("av")
    path = tmp_path / "a.ogg"
    soundfile.write(path, sine(16_000, 5.0), 16_000, format="OGG", subtype="OPUS")
    whole = read_audio(path)
    pages = pages_of(path.read_bytes())
    assert b"".join(pages) == path.read_bytes() and all(
        checksum(page) == int.from_bytes(page[22:26], "little") for page in pages
    )
    place = int.from_bytes(pages[4][6:14], "little") - 489
    pages[4][6:14] = place.to_bytes(8, "little")
    pages[4][22:26] = checksum(pages[4]).to_bytes(4, "little")
    path.write_bytes(b"".join(pages))
    with soundfile.SoundFile(path) as file, pytest.raises(soundfile.LibsndfileError):
        file.read()
    found = read_audio(path)
    assert len(found.audio) / found.rate == len(whole.audio) / whole.rate
    assert signal_to_noise(resample(found.audio, found.rate, 16_000), whole.audio) > 30
    part = read_audio(path, 2.0, 1.0)
    assert np.array_equal(part.audio, found.audio[2 * found.rate :][: found.rate])
    with monkeypatch.context() as patched:
        patched.setattr(ffmpeg, "available", lambda: False)
        with pytest.raises(
            UnreadableAudio, match=r"malformed \(FFmpeg may read all of it: pip install 'joint_st\[av\]'\)"
        ):
            read_audio(path)
    # A page that is damaged is not read around.
    pages[4][100] ^= 1
    path.write_bytes(b"".join(pages))
    with pytest.raises(UnreadableAudio, match="the checksum of a page does not hold: it is damaged"):
        read_audio(path)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("format, subtype, apart", [("OGG", "VORBIS", 0), ("OGG", "OPUS", 100), ("MP3", None, 2)])
def test_a_part_of_a_lossy_file_is_that_of_the_whole(tmp_path, format, subtype, apart, rate):
    if subtype == "OPUS" and rate == 44_100:
        pytest.skip("Opus has no such rate")
    path, seconds = tmp_path / f"a.{format.lower()}", np.arange(4 * rate) / rate
    chirp = 0.4 * np.sin(2 * np.pi * (200 * seconds + 400 * seconds**2))
    soundfile.write(path, chirp.astype(np.float32), rate, format=format, subtype=subtype)
    whole = read_audio(path).audio
    for offset in (0.1, 0.5, 1.0, 2.3, 3.4):
        part = read_audio(path, offset, 0.5).audio
        expected = whole[round(offset * rate) :][: len(part)]
        assert len(part) == round(0.5 * rate)
        np.testing.assert_allclose(part, expected, atol=apart, err_msg=str(offset))

"""Log-mel against a slow discrete Fourier transform written out."""

import numpy as np
import pytest

from joint_st.ops.log_mel import (
    FLOOR,
    FORMS,
    LEAST_POWER,
    MEAN,
    SCALE,
    hertz_to_mel,
    mel_matrix,
    mel_power,
    normalised_log,
)

SHAPE = dict(sample_rate=8000, window=200, hop=80, mels=12, low_hz=50.0, high_hz=3800.0)


def log_mel(audio, **options):
    return normalised_log(mel_power(audio, **options))


def reference(audio):
    """Return one utterance int16 [S], window by window, with the transform as a sum."""
    padded = np.concatenate([np.zeros(120), audio / 32768.0])
    taper = np.hanning(201)[:-1]
    basis = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(256)) / 256)
    edges = np.linspace(hertz_to_mel(50), hertz_to_mel(3800), 14)
    mel_of_bin = hertz_to_mel(np.arange(129) * 8000 / 256)
    rows = []
    for start in range(0, len(audio), 80):
        frame = np.zeros(256)
        frame[:200] = padded[start : start + 200] * taper
        power = np.abs(basis @ frame) ** 2
        row = []
        for low, peak, high in zip(edges, edges[1:], edges[2:]):
            weight = np.interp(mel_of_bin, [low, peak, high], [0, 1, 0], left=0, right=0)
            row.append((np.log((power * weight).sum() + FLOOR) - MEAN) / SCALE)
        rows.append(row)
    return np.array(rows)


@pytest.fixture(scope="module")
def audio():
    return (np.random.default_rng(0).normal(size=(2, 800)) * 4000).astype(np.int16)


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def test_equals_the_slow_transform(audio, form):
    for row, features in zip(audio, log_mel(audio, **SHAPE, form=form)):
        np.testing.assert_allclose(features, reference(row), rtol=1e-5, atol=1e-5)


def test_a_piece_continues_from_the_samples_before(audio, form):
    whole = log_mel(audio, **SHAPE, form=form)
    past = audio[:, 400 - 120 : 400]
    np.testing.assert_allclose(log_mel(audio[:, 400:], **SHAPE, past=past, form=form), whole[:, 5:], atol=1e-5)


@pytest.mark.parametrize("remove_offset", (False, True))
def test_forms_agree_where_a_tone_is_far_above_the_rest(remove_offset):
    noise = np.random.default_rng(0).normal(size=8000)
    audio = (20000 * np.sin(2 * np.pi * 300 * np.arange(8000) / 8000) + 2 * noise + 5000 * remove_offset).astype(
        np.int16
    )
    fft, products = (mel_power(audio[None], **SHAPE, remove_offset=remove_offset, form=form) for form in FORMS)
    # In float32, the noise of a channel that is 90 dB below the tone is known to a hundredth.
    np.testing.assert_allclose(normalised_log(fft, LEAST_POWER), normalised_log(products, LEAST_POWER), atol=0.01)
    np.testing.assert_allclose(fft, products, atol=1e-6 * fft.max())


def test_a_window_of_one_hop(audio):
    shape = SHAPE | {"window": 80}
    found = [log_mel(audio, **shape, form=form) for form in FORMS]
    np.testing.assert_allclose(*found, atol=1e-5)


def test_a_tone_is_loudest_in_its_channel():
    tone = (np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000) * 20000).astype(np.int16)
    loudest = int(np.argmax(log_mel(tone[None], **SHAPE)[0, 50]))
    centres = np.linspace(hertz_to_mel(50), hertz_to_mel(3800), 14)[1:-1]
    assert loudest == np.argmin(np.abs(centres - hertz_to_mel(1000)))


def test_every_channel_hears_something():
    for mels in (80, 128, 200):
        assert (mel_matrix(16000, 512, mels, 20.0, 7600.0).sum(axis=0) > 0).all()


def test_silence_is_the_floor():
    features = log_mel(np.zeros((1, 160), np.int16), **SHAPE)
    np.testing.assert_allclose(features, (np.log(FLOOR) - MEAN) / SCALE, rtol=1e-6)


def test_an_offset_is_not_heard(audio):
    shifted = (audio // 2 + 3000).astype(np.int16)
    plain, moved = (log_mel(x, **SHAPE, remove_offset=True) for x in ((audio // 2).astype(np.int16), shifted))
    # The first windows reach back over silence before the start, where there was no offset.
    np.testing.assert_allclose(moved[:, 3:], plain[:, 3:], atol=1e-3)
    assert np.abs(log_mel(shifted, **SHAPE) - log_mel((audio // 2).astype(np.int16), **SHAPE))[:, 3:].max() > 0.1


def test_the_fixed_floor_lies_where_its_docstring_says():
    """FLOOR is the mean power of white noise 86 dB below full scale, 10 to 20 dB above what rounding to int16 adds."""
    shape = dict(sample_rate=16_000, window=400, hop=160, mels=80, low_hz=20.0, high_hz=7600.0)
    random = np.random.default_rng(0)
    noise = np.round(random.normal(size=(1, 48_000)) * 10 ** (-60 / 20) * 32768).astype(np.int16)
    of_full_scale = 10 * np.log10(np.mean(mel_power(noise, **shape))) + 60
    assert 10 * np.log10(FLOOR) - of_full_scale == pytest.approx(-86, abs=1)
    rounding = random.uniform(-0.5, 0.5, (1, 48_000)).astype(np.float32) / 32768
    power = FORMS["fft"](rounding, 400, 160, False) @ mel_matrix(16_000, 512, 80, 20.0, 7600.0)
    above = 10 * np.log10(FLOOR / np.mean(power, axis=(0, 1)))
    assert 9 < above.min() < 12 and 19 < above.max() < 22

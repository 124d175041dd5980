"""Gain and noise that are added to speech: how large they are, and what draws them."""

from __future__ import annotations

import numpy as np
import pytest

from joint_st.config import Gain, Noise, Speed
from joint_st.data.augmentation import Speech, make_augmentation, with_noise
from joint_st.errors import UserError

AUDIO = (np.sin(np.arange(16_000) * 0.05) * 3000).astype(np.int16)
SPEECH = Speech(AUDIO, 16_000, None)


def power(x) -> float:
    return float(np.mean(np.square(x, dtype=np.float64)))


def test_gain_is_drawn_from_its_range_by_seed_step_and_row():
    augment = make_augmentation([Gain(low_db=-20, high_db=6)])
    drawn = [10 * np.log10(power(augment(SPEECH, 0, step, 3).audio) / power(AUDIO)) for step in range(200)]
    assert -20.1 < min(drawn) < -18 and 4 < max(drawn) < 6.1
    assert np.mean(drawn) == pytest.approx(-7, abs=1.5)
    np.testing.assert_array_equal(augment(SPEECH, 0, 5, 3).audio, augment(SPEECH, 0, 5, 3).audio)
    assert (augment(SPEECH, 0, 5, 4).audio != augment(SPEECH, 0, 5, 3).audio).any()
    np.testing.assert_array_equal(augment.planned(np.array([7, 9])), [7, 9])


def test_samples_beyond_full_scale_are_clipped():
    loud = make_augmentation([Gain(low_db=40, high_db=40)])(SPEECH, 0, 0, 0).audio
    assert loud.dtype == np.int16 and loud.max() == 32767 and loud.min() == -32768


@pytest.mark.parametrize("colour, slope", [("white", 0.0), ("pink", -10.0)])
def test_noise_lies_so_far_below_the_speech_and_falls_by_its_colour(colour, slope):
    quiet = np.full(160_000, 1000, np.int16)
    noise = with_noise(quiet, 20, colour, np.random.default_rng(0)).astype(float) - 1000
    assert 10 * np.log10(1000**2 / power(noise)) == pytest.approx(20, abs=0.1)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    low, high = spectrum[400:800].mean(), spectrum[4000:8000].mean()
    assert 10 * np.log10(high / low) == pytest.approx(slope, abs=1)


def test_a_share_of_the_utterances_gets_noise_and_silence_stays_silent():
    augment = make_augmentation([Noise(share=0.25)])
    changed = [(augment(SPEECH, 0, step, 0).audio != AUDIO).any() for step in range(400)]
    assert np.mean(changed) == pytest.approx(0.25, abs=0.07)
    silence = Speech(np.zeros(100, np.int16), 16_000, None)
    assert not make_augmentation([Noise(share=1.0)])(silence, 0, 0, 0).audio.any()


@pytest.mark.parametrize("kind", [Gain, Noise])
def test_a_range_upside_down_is_refused(kind):
    with pytest.raises((UserError, ValueError), match="is above high_db"):
        kind(low_db=7, high_db=6)


def test_speed_changes_length_pitch_and_word_times():
    times = np.array([0.1, 0.5]), np.array([0.4, 1.0])
    speech = SPEECH._replace(word_times=times)
    slow, same, fast = (make_augmentation([Speed(factors=(factor,))])(speech, 0, 0, 0) for factor in (0.8, 1.0, 1.25))
    np.testing.assert_array_equal(same.audio, AUDIO)
    assert len(slow.audio) == 20_000 and len(fast.audio) == 12_800
    # A sine of 0.05 radians a sample turns into one of 0.04 and of 0.0625.
    for changed, step in ((slow, 0.04), (fast, 0.0625)):
        peak = np.argmax(np.abs(np.fft.rfft(changed.audio * np.hanning(len(changed.audio)))))
        assert 2 * np.pi * peak / len(changed.audio) == pytest.approx(step, rel=0.01)
    np.testing.assert_allclose(slow.word_times, np.array(times) / 0.8)
    np.testing.assert_allclose(fast.word_times, np.array(times) / 1.25)

    several = make_augmentation([Speed()])
    lengths = [len(several(speech, 0, step, 0).audio) for step in range(300)]
    assert {round(16_000 / length, 1) for length in lengths} == {0.9, 1.0, 1.1}
    for samples in (1, 15_999, 16_000, 16_001):
        audio = AUDIO[:samples] if samples <= 16_000 else np.pad(AUDIO, (0, 1))
        longest = max(len(several(Speech(audio, 16_000, None), 0, step, 0).audio) for step in range(20))
        assert longest <= several.planned(np.array([samples]))[0] <= longest + 1
    with pytest.raises((UserError, ValueError), match="0.1 must be at least 0.25"):
        Speed(factors=(1.0, 0.1))

"""A figure of when words are said: the spectrogram of an utterance, and below it the times of its words and units."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from joint_st.config import FeaturesConfig
from joint_st.data.word_times import timed_groups
from joint_st.figures import BLUE, GREEN, ORANGE, STYLE
from joint_st.ops.log_mel import hertz_to_mel, mel_power, normalised_log
from joint_st.word_times.spans import Aligned

KILOHERTZ = (0.25, 0.5, 1, 2, 4, 8, 16)
"""Frequencies that are named on the axis, where it has them."""
INCHES_PER_SECOND = 2.6
NARROWEST, WIDEST = 6.0, 16.0
"""Width of the figure in inches."""


def spectrogram_figure(
    aligned: Aligned,
    audio: np.ndarray,
    features: FeaturesConfig,
    true: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Draw the log-mel spectrogram of an utterance, and below it, as tiers, the words and units of its alignment.

    audio: int16 [samples] at the model's sample rate. features: the model's; the spectrogram has its mel channels.
    true: seconds at which each word begins and ends, as `Utterance.word_times` has them; those of the alignment where
    this is None. They get a tier of their own where they are known, and every start of a true word is a line in the
    spectrogram; where they are not, the starts of the aligned words are.
    """
    true = aligned.true if true is None else true
    words = [(span.start, span.end, span.text) for span in aligned.words]
    tiers = [("words", BLUE, words)]
    if aligned.units is not None:
        tiers.append(("units", GREEN, [(span.start, span.end, span.text) for span in aligned.units]))
    if true is not None:
        tiers.insert(0, ("true", ORANGE, timed_words(aligned.text.split(), *true)))
    width = float(np.clip(INCHES_PER_SECOND * aligned.seconds, NARROWEST, WIDEST))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 2.4 + 0.32 * len(tiers)), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.9, 0.32 * len(tiers)))
        _spectrogram(above, audio, features)
        for start, _, _ in tiers[0][2]:
            above.axvline(start, color=tiers[0][1], linewidth=1)
        above.set_title(f"{aligned.id}: {aligned.text}", parse_math=False)
        for row, (_, colour, spans) in enumerate(tiers):
            _tier(below, row, colour, spans)
        below.set_ylim(len(tiers), 0)
        below.set_yticks([row + 0.5 for row in range(len(tiers))], [name for name, _, _ in tiers])
        below.tick_params(axis="y", length=0)
        below.spines["left"].set_visible(False)
        below.set_xlim(0, aligned.seconds)
        below.set_xlabel("time (s)")
    return figure


def timed_words(words: Sequence[str], starts: np.ndarray, ends: np.ndarray) -> list[tuple[float, float, str]]:
    """Return start, end and text of each word; words whose times are only known together are one (`word_times`)."""
    group = timed_groups(starts)
    texts = [" ".join(word for word, own in zip(words, group) if own == n) for n in range(group[-1] + 1)]
    return list(zip(starts[~np.isnan(starts)].tolist(), ends[~np.isnan(ends)].tolist(), texts))


def _spectrogram(ax, audio: np.ndarray, features: FeaturesConfig) -> None:
    frames = -(-len(audio) // features.hop)
    whole = np.zeros((1, frames * features.hop), np.int16)
    whole[0, : len(audio)] = audio
    power = mel_power(
        whole,
        sample_rate=features.sample_rate,
        window=features.window,
        hop=features.hop,
        mels=features.mels,
        low_hz=features.low_hz,
        high_hz=features.high_hz,
    )
    low, high = hertz_to_mel(features.low_hz), hertz_to_mel(features.high_hz)
    ax.imshow(
        np.asarray(normalised_log(power))[0].T,
        cmap="magma",
        origin="lower",
        extent=(0, frames * features.hop / features.sample_rate, low, high),
        aspect="auto",
    )
    named = [k for k in KILOHERTZ if low <= hertz_to_mel(1000 * k) <= high]
    ax.set_yticks([hertz_to_mel(1000 * k) for k in named], [f"{k:g}" for k in named])
    ax.set_ylabel("kHz")


def _tier(ax, row: int, colour: str, spans: Sequence[tuple[float, float, str]]) -> None:
    """Draw each span as a box with its text."""
    for start, end, text in spans:
        box = Rectangle((start, row + 0.08), end - start, 0.84, facecolor=colour, alpha=0.25, edgecolor=colour)
        ax.add_patch(box)
        ax.text((start + end) / 2, row + 0.5, text, ha="center", va="center", fontsize=8, parse_math=False)

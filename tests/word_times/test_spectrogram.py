"""The figure of an alignment over the spectrogram, read from its axes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from joint_st.config import FeaturesConfig
from joint_st.ops.log_mel import hertz_to_mel
from joint_st.word_times.figures import spectrogram_figure
from joint_st.word_times.spans import Aligned, Span

FEATURES = FeaturesConfig(mels=40)
TRUE = (np.array([0.1, 0.5]), np.array([0.4, 0.9]))
WORDS = (Span("to", 0.12, 0.44, 0.9, 0), Span("$me", 0.56, 0.96, 0.8, 1))
ALIGNED = Aligned(
    id="one",
    seconds=1.0,
    text="to $me",
    head="full_context",
    log_prob=-1.0,
    words=WORDS,
    written=WORDS,
    units=(Span("t", 0.12, 0.2, 0.9, 0), Span("uː", 0.2, 0.44, 0.9, 0)),
)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * FEATURES.sample_rate)) / FEATURES.sample_rate
    return (20_000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def tiers(figure) -> list[tuple[str, list]]:
    """The boxes of each tier from top to bottom: their texts, starts and ends."""
    below = figure.axes[1]
    names = [label.get_text() for label in below.get_yticklabels()]
    found: dict[int, list] = {}
    boxes = [patch for patch in below.patches if isinstance(patch, Rectangle)]
    for box, text in zip(boxes, below.texts, strict=True):
        own = (text.get_text(), round(box.get_x(), 6), round(box.get_x() + box.get_width(), 6))
        found.setdefault(int(box.get_y()), []).append(own)
    return [(name, found[row]) for row, name in enumerate(names)]


def test_words_and_units_are_boxes_at_their_times():
    figure = spectrogram_figure(ALIGNED, tone(1000), FEATURES, true=TRUE)
    assert tiers(figure) == [
        ("true", [("to", 0.1, 0.4), ("$me", 0.5, 0.9)]),
        ("words", [("to", 0.12, 0.44), ("$me", 0.56, 0.96)]),
        ("units", [("t", 0.12, 0.2), ("uː", 0.2, 0.44)]),
    ]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == TRUE[0].tolist()
    assert figure.axes[0].get_title("left") == "one: to $me"
    figure.draw_without_rendering()  # a `$` in a word is no formula


@pytest.mark.parametrize("known", [False, True])
def test_without_units_or_true_times(known):
    aligned = dataclasses.replace(ALIGNED, units=None, true=TRUE if known else None)
    figure = spectrogram_figure(aligned, tone(1000), FEATURES)
    assert [name for name, _ in tiers(figure)] == ["true", "words"][not known :]
    starts = TRUE[0].tolist() if known else [0.12, 0.56]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == starts


def test_true_words_keep_their_names_where_a_word_has_no_span():
    aligned = dataclasses.replace(ALIGNED, words=WORDS[1:])
    assert tiers(spectrogram_figure(aligned, tone(1000), FEATURES, true=TRUE))[:2] == [
        ("true", [("to", 0.1, 0.4), ("$me", 0.5, 0.9)]),
        ("words", [("$me", 0.56, 0.96)]),
    ]


def test_the_spectrogram_is_in_seconds_and_mel():
    """A tone is brightest where its frequency is on the axis; 1.005 s of it are 101 frames of 10 ms."""
    figure = spectrogram_figure(ALIGNED, tone(2000, 1.005), FEATURES)
    (image,) = figure.axes[0].images
    left, right, low, high = image.get_extent()
    assert (left, right) == (0, 1.01) and image.get_array().shape == (40, 101)
    brightest = np.argmax(image.get_array().mean(axis=1))
    at = low + (brightest + 0.5) / 40 * (high - low)
    assert abs(at - hertz_to_mel(2000)) < (high - low) / 40
    labels = dict(zip([text.get_text() for text in figure.axes[0].get_yticklabels()], figure.axes[0].get_yticks()))
    assert labels["2"] == hertz_to_mel(2000) and "8" not in labels

"""How sure a run is of each word that it has heard.

The confidence of a word is the product over its labels of the largest probability that each has in one of its frames,
given the audio (`joint_st.heads.LabelSpans.peaks`; with CTC, posteriors of frames on the likeliest path), to the power
of 1 / T. The temperature T divides log probabilities: 1 until one is fitted, above 1 where words are right more often
than the product says, below 1 where less often. It belongs to a checkpoint, a head and a decoder (`joint-st evaluate
--calibrate`), and changes no order, so that the area under the ROC curve stays.

Why this one: on the dev set of the quickstart (6 speakers; full context, greedily, 74 % of 1,321 words correct), log
loss with a temperature fitted on half of the speakers, on the other half, and calibration error there before and after:

    product of labels' peaks                      0.347   5.4 %    5.2 %
    product of labels' means over frames          0.381  14.8 %    7.8 %
    least peak of a label                         0.353   7.5 %    4.5 %
    geometric mean of labels' peaks               0.346  16.4 %    4.1 %
    mean posterior over all frames                0.412  13.2 %    9.5 %
    mean of the frames' normalised entropies      0.406  14.4 %   12.7 %
    mean of their Tsallis entropies (1 / 3)       0.456  17.1 %   17.6 %

The entropies are those of Laptev and Ginsburg (arXiv 2212.08703), which NeMo has; the last has the largest AUC, 0.900
where the product has 0.878. The beam and the streaming head gave the same picture. The product needs the least
correction, and so does the least harm without a temperature.
"""

from __future__ import annotations

import numpy as np

LEAST = 1e-6
"""Confidences are kept from 0 and from 1 by this, so that no logarithm is infinite."""


def word_confidence(scores: np.ndarray, frames: np.ndarray) -> float:
    """Return the product of the probabilities of a word's labels [labels]; the `frames` of each do not count."""
    return float(np.prod(scores, dtype=np.float64))


def tempered(confidences: np.ndarray | float, temperature: float) -> np.ndarray:
    """Return confidences to the power of 1 / `temperature`."""
    return np.asarray(confidences, np.float64) ** (1 / temperature)

"""The confidence of a run in each word that it has recognised.

The confidence of a word is the product over its labels of the largest probability that each has in one of its frames,
given the audio (`joint_st.heads.LabelSpans.peaks`; with CTC, posteriors of frames on the likeliest path), to the power
of 1 / T. The temperature T divides log probabilities: 1 until one is fitted, above 1 where words are right more often
than the product says, below 1 where less often. It belongs to a checkpoint, a head and a decoder (`joint-st evaluate
--calibrate`), and does not change the order of words, so that the area under the ROC curve stays the same.

This measure was chosen on the dev set of the quickstart (6 speakers; full context, greedy decoding, 74 % of 1,321 words
correct). The table shows the log loss on half of the speakers, with a temperature fitted on the others, and on the same
half the calibration error (%) before and after, and the AUC (`benchmarks/confidence.py`):

    product of labels' peaks                      0.355    4.1    4.5    0.894
    product of labels' means over frames          0.389   12.9    7.7    0.880
    least peak of a label                         0.366   10.2    6.4    0.888
    geometric mean of labels' peaks               0.363   19.0    5.7    0.895
    mean posterior over all frames                0.434   16.1    9.9    0.860
    mean of the frames' normalised entropies      0.429   16.9   13.5    0.885
    mean of their Tsallis entropies (1 / 3)       0.482   18.9   18.9    0.899

The entropies are those of Laptev and Ginsburg (arXiv 2212.08703), which NeMo has. A beam of 16 gives the same picture;
for the streaming head the product of means is as good (0.515; 0.519 for that of peaks). The product of peaks needs the
least correction, and therefore does the least harm where no temperature is known.
"""

from __future__ import annotations

import numpy as np

LEAST = 1e-6
"""Smallest distance of confidences from 0 and from 1, so that no logarithm is infinite."""


def word_confidence(scores: np.ndarray, frames: np.ndarray) -> float:
    """Return the product of the probabilities of a word's labels [labels]; the `frames` of each are ignored."""
    return float(np.prod(scores, dtype=np.float64))


def tempered(confidences: np.ndarray | float, temperature: float) -> np.ndarray:
    """Return confidences to the power of 1 / `temperature`."""
    return np.asarray(confidences, np.float64) ** (1 / temperature)

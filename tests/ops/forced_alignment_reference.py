"""A slow Viterbi through the states of CTC, one at a time, in float64."""

import itertools

import numpy as np


def log_softmax(logits):
    x = np.asarray(logits, np.float64)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def viterbi(log_probs, labels, blank=0):
    """Return the path of label indices (-1: blank) and its log probability, state by state, in float64."""
    states = [blank, *itertools.chain.from_iterable((label, blank) for label in labels)]
    scores, back = {0: log_probs[0, blank], 1: log_probs[0, states[1]]}, []
    for frame in log_probs[1:]:
        new, sources = {}, {}
        for s, symbol in enumerate(states):
            skips = s >= 2 and symbol != blank and symbol != states[s - 2]
            ways = [source for source in (s, s - 1, *([s - 2] if skips else [])) if source in scores]
            if ways:
                sources[s] = max(ways, key=scores.get)
                new[s] = scores[sources[s]] + frame[symbol]
        scores = new
        back.append(sources)
    end = max((s for s in (len(states) - 1, len(states) - 2) if s in scores), key=scores.get)
    path = [end]
    for sources in reversed(back):
        path.append(sources[path[-1]])
    return [s // 2 if s % 2 else -1 for s in reversed(path)], scores[end]

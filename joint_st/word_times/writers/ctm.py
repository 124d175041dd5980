"""NIST's CTM: a word a line."""

from __future__ import annotations

from joint_st.word_times.result import Aligned

CHANNEL = "1"


def ctm(aligned: Aligned) -> str:
    """Lines of utterance, channel, start and duration in seconds, word, confidence; white space in ids is `_`."""
    utterance = "_".join(aligned.id.split())
    return "".join(
        f"{utterance} {CHANNEL} {span.start:.3f} {span.end - span.start:.3f} {span.text} {span.confidence:.4f}\n"
        for span in aligned.words
    )

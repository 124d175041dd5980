"""JSON, an utterance a line, with all that is known."""

from __future__ import annotations

import json

from joint_st.word_times.result import Aligned, Span


def json_line(aligned: Aligned) -> str:
    """An object with `id`, `seconds`, `text`, `head`, `log_prob` (mean over frames), `words` and, where known, `units`.

    Each word and unit has `start` and `end` in seconds and a `confidence`; a unit also says which `word` it is in.
    """
    record = {
        "id": aligned.id,
        "seconds": round(aligned.seconds, 6),
        "text": aligned.text,
        "head": aligned.head,
        "log_prob": None if aligned.log_prob is None else round(aligned.log_prob, 6),
        "words": [{"word": span.text, **_times(span)} for span in aligned.words],
    }
    if aligned.units is not None:
        record["units"] = [{"unit": span.text, **_times(span), "word": span.word} for span in aligned.units]
    return json.dumps(record, ensure_ascii=False) + "\n"


def _times(span: Span) -> dict:
    # A microsecond is less than a sample.
    return {"start": round(span.start, 6), "end": round(span.end, 6), "confidence": round(span.confidence, 6)}

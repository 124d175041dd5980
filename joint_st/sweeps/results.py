"""Results of single runs, read from the evaluations in their directories."""

from __future__ import annotations

import json
from pathlib import Path


def result_line(table: Path) -> str:
    """The rates of an evaluation's table in one line: `test full_context 23.8 % (heard 8.3, text_only 109.8), ...`."""
    parts: dict[tuple, dict[str, str]] = {}
    for row in json.loads(table.read_bytes()):
        rate = "-" if row["wer"] is None else f"{100 * row['wer']:.1f}"
        parts.setdefault((row["split"], row["head"]), {})[row["subset"]] = rate
    texts = []
    for (split, head), rates in parts.items():
        overall = rates.pop("all")
        rest = ", ".join(f"{subset} {rate}" for subset, rate in rates.items())
        texts.append(f"{split} {head} WER {overall} %" + (f" ({rest})" if rest else ""))
    return ", ".join(texts)

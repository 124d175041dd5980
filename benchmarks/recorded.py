"""What text adds to recorded speech, from the rows of a sweep: a row for each rate and one for each relative change.

    joint-st sweep configs/sweeps/recorded.py --collect --json rows.json
    python -m benchmarks.recorded rows.json

`rates` have the arm (`name`), the test split, the head, the decoder (`greedy`, or the beam with its language model), the
subset of the words, `wer` with the 95 % interval over seeds and utterances as fractions, the seeds, the steps and the
device. `changes` have the same keys, the arm that is compared with (`relative_to`), and `change` with its interval, paired
by seed and utterance. Arms of which there are no rows yet are left out; call it again when they have been trained.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from joint_st.sweeps.table import HEADS, change_of, name_of, references_of, subsets_of

RESULTS = machine.RESULTS / "recorded.json"


def kinds(rows: list[dict]) -> Iterator[tuple[dict, dict, str, str]]:
    """Yield each row of the sweep with what identifies a rate in it: its keys in our rows, its head and its subset."""
    for row in rows:
        common = {"name": row["name"], "test": row["split"], "decoder": row["decoder"]}
        for head in HEADS:
            for subset in subsets_of(rows):
                if row.get(name_of("wer", head, subset)) is not None:
                    yield row, common | {"head": head, "subset": subset}, head, subset


def rates(rows: list[dict], device: str) -> list[dict]:
    """Return a row for each rate."""
    found = []
    for row, keys, head, subset in kinds(rows):
        name = name_of("wer", head, subset)
        numbers = {f"wer{end}": row[f"{name}{end}"] for end in ("", "_low", "_high", "_by_seed")}
        words = row[name_of("words", "full_context", subset)]
        found.append(keys | numbers | {"words": words, "seeds": row["seeds"], "steps": row["steps"], "device": device})
    return found


def changes(rows: list[dict]) -> list[dict]:
    """Return a row for each change relative to an arm of reference."""
    found = []
    for row, keys, head, subset in kinds(rows):
        for reference in references_of([row]):
            change = change_of(row, reference, head, subset)
            if change:
                found.append(keys | {"relative_to": reference, **change, "seeds": row["seeds"]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="what `joint-st sweep --collect --json` wrote")
    parser.add_argument("--device", help="where the arms were trained, if not here")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    rows = json.loads(options.rows.read_text(encoding="utf-8"))
    device = options.device or machine.device()
    found = {"commit": machine.commit(), "rates": rates(rows, device), "changes": changes(rows)}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(found['rates'])} rates, {len(found['changes'])} changes")


if __name__ == "__main__":
    main()

"""What text adds to recorded speech, from the runs of a sweep: a row for each rate and one for each relative change.

    joint-st sweep configs/sweeps/recorded.py --workers 2
    python -m benchmarks.recorded configs/sweeps/recorded.py

It keeps the finished runs, as `benchmarks/kept_runs.py` does, and writes `benchmarks/results/SWEEP.json` from all that are
kept. `rates` have the arm (`name`), the test split, the head, the decoder (`greedy`, or the beam with its language model),
the subset of the words, `wer` with the 95 % interval over seeds and utterances as fractions, the seeds, the steps and the
device. `changes` have the same keys, the arm that is compared with (`relative_to`), and `change` with its interval, over
all seeds of both, paired by utterance, and by seed where both have the same. `readings` have the word error rates of what a
run's shared layers read, and the share of text units that it recognised wrongly, where `joint-st confusions` has counted
them. Arms of which no run is kept yet are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks import machine
from benchmarks.kept_runs import keep_and_collect, options_of, readings
from joint_st.sweeps.table import HEADS, change_of, name_of, references_of, subsets_of


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
    rows, device, out, sweep = keep_and_collect(options_of(__doc__))
    found = {"commit": machine.commit(), "rates": rates(rows, device), "changes": changes(rows)}
    found["readings"] = list(readings(sweep))
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {len(found['rates'])} rates, {len(found['changes'])} changes")


if __name__ == "__main__":
    main()

"""WER of the streaming pass against the time that it waits, for runs trained with and without look-ahead.

    joint-st train configs/quickstart.py --name look_ahead --model.look_ahead_ms 0,160,320,640
    python -m benchmarks.look_ahead runs/quickstart runs/look_ahead --data dev=tfds:spoken_grammar:dev

Each run is evaluated, greedily, at each of the look-aheads that it was trained with. `delay_ms` is how long a frame waits
for the end of its block on average, `longest_delay_ms` how long the first frame of a block does. Rows are written to
`benchmarks/results/look_ahead.json`, where those of other runs and data stay.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import rich
import rich.table

from benchmarks import machine
from joint_st.cli.options import read_sources
from joint_st.config import load
from joint_st.evaluation.evaluate import evaluate_run
from joint_st.evaluation.report import between, percent
from joint_st.runs.directory import existing_run

RESULTS = machine.RESULTS / "look_ahead.json"


def waits(length: float, frame: float) -> dict[str, float]:
    """Return how long frames of `frame` milliseconds wait in blocks of `length` milliseconds, 0 for none."""
    longest = max(length - frame, 0.0)
    return {"delay_ms": longest / 2, "longest_delay_ms": longest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", required=True, metavar="NAME=SOURCE", help="as for `evaluate`; a dev set")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    data = read_sources([options.data])
    (split,) = data
    rows = []
    for run in options.runs:
        config = load(existing_run(run).config)
        for length in config.model.look_ahead_ms:
            asked = length if any(config.model.look_ahead_ms) else None
            for row in evaluate_run(run, data=data, look_ahead_ms=asked):
                if row["subset"] != "all":
                    continue
                rows.append(
                    {
                        "run": run.name,
                        "data": split,
                        "trained_with_ms": list(config.model.look_ahead_ms),
                        "look_ahead_ms": length,
                        **waits(length, config.model.features.frame_ms),
                        **{name: row[name] for name in ("head", "wer", "wer_low", "wer_high", "utterances", "step")},
                        "device": machine.device(),
                        "commit": machine.commit(),
                        "jax": jax.__version__,
                    }
                )
    show(rows)
    new = {(row["run"], row["data"]) for row in rows}
    kept = json.loads(options.out.read_text()) if options.out.exists() else []
    kept = [row for row in kept if (row["run"], row["data"]) not in new]
    options.out.write_text(json.dumps(kept + rows, indent=1) + "\n")


def show(rows: list[dict]) -> None:
    """Print the table."""
    table = rich.table.Table("run", "look-ahead ms", "mean delay ms", "pass", "WER %", "95 %")
    for row in rows:
        table.add_row(
            row["run"],
            f"{row['look_ahead_ms']:g}",
            f"{row['delay_ms']:g}",
            row["head"],
            percent(row["wer"]),
            between(row["wer_low"], row["wer_high"]),
        )
    rich.print(table)


if __name__ == "__main__":
    main()

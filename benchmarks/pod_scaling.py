"""What a training step of each large config needs on a chip, from eight chips to a pod, compiled without a TPU.

    python benchmarks/pod_scaling.py [--full] [--only librispeech_960h] [--json benchmarks/results/pods.json]

It compiles with `--quick`; `--full` compiles as training does. The data sent are the same within 0.1 % where both were
done; temporaries differ (librispeech_960h on v5e:2x4: 2.07 and 2.29 GiB). The batch grows with the chips: each chip has
as many utterances and sentences everywhere, so that what it computes and sends should stay the same (weak scaling).
Each compilation is a process of its own (`joint-st compile`); what is in the file already is not compiled again. Needs
the package libtpu. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from joint_st.distributed.topology import GIB, parse_topology

CHECKOUT = Path(__file__).resolve().parents[1]


class Row(NamedTuple):
    """A compilation."""

    config: str
    topology: str
    per_chip: int
    """Utterances, and sentences, of each chip."""
    fsdp: int
    quick: bool = True


ROWS = [
    Row("quickstart", "v5e:2x4", 8, 1),
    Row("quickstart", "v5e:16x16", 8, 1),
    Row("librispeech_960h", "v5e:2x4", 8, 1),
    Row("librispeech_960h", "v5e:16x16", 8, 1),
    Row("multilingual_600m", "v5e:16x16", 4, 16),
    Row("multilingual_2b", "v5p:8x8x16", 4, 16),
    Row("multilingual_600m", "v5e:4x4", 4, 16),
    Row("multilingual_2b", "v5e:16x16", 1, 64),
    Row("multilingual_600m", "v5e:2x4", 4, 8),
    Row("librispeech_960h", "v5e:8x8", 8, 1),
    Row("librispeech_960h", "v4:4x4x8", 8, 1),
    Row("librispeech_960h", "v6e:16x16", 8, 1),
]


def compiled(row: Row) -> dict:
    """Return what `joint-st compile` writes."""
    batch = row.per_chip * parse_topology(row.topology).chips
    overrides = dict.fromkeys(("data.batch_size", "data.text_batch_size", "evaluation.batch_size"), batch)
    overrides["parallel.fsdp"] = row.fsdp
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        config = CHECKOUT / "configs" / f"{row.config}.py"
        command = [sys.executable, "-m", "joint_st", "compile", config, "--topology", row.topology, "--json", file]
        command += ["--quick"] * row.quick
        for path, value in overrides.items():
            command += [f"--{path}", value]
        done = subprocess.run([str(part) for part in command], cwd=CHECKOUT)
        if done.returncode not in (0, 1):
            sys.exit(done.returncode)
        return {"per_chip": row.per_chip, **json.loads(file.read_text())}


def key(found: dict) -> Row:
    return Row(found["config"], found["topology"], found["per_chip"], found["mesh"]["fsdp"], found["quick"])


def markdown(rows: list[dict]) -> str:
    """Return a line for each compilation; sizes are those of a chip and step."""
    header = [
        "config",
        "slice",
        "chips",
        "data × fsdp",
        "rows a chip",
        "state GiB",
        "temporaries GiB",
        "all of usable GiB",
        "TFLOPs",
        "MiB sent",
        "compiled",
        "in s",
    ]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        memory, mesh = row["memory"], row["mesh"]
        state = sum(memory[name] for name in ("parameters", "average", "optimizer"))
        sent = sum(one["bytes"] for one in row["collectives"]) / 2**20
        fits = "" if row["fits"] else " (does not fit)"
        lines.append(
            [
                f"`{row['config']}`",
                f"`{row['topology']}`",
                row["chips"],
                f"{mesh['data']} × {mesh['fsdp']}",
                row["per_chip"],
                f"{state / GIB:.2f}",
                f"{memory['temporaries'] / GIB:.2f}",
                f"{memory['total'] / GIB:.2f} of {memory['usable'] / GIB:.2f}{fits}",
                f"{row['flops'] / 1e12:.2f}",
                f"{sent:,.1f}" if row["fits"] else "-",
                "quickly" if row["quick"] else "fully",
                f"{row['seconds']:.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="compile with all effort, as training does")
    parser.add_argument("--only", nargs="+", default=[], help="configs, instead of all")
    parser.add_argument("--json", type=Path, default=CHECKOUT / "benchmarks/results/pods.json")
    arguments = parser.parse_args()
    found = json.loads(arguments.json.read_text()) if arguments.json.exists() else []
    for row in (row._replace(quick=not arguments.full) for row in ROWS):
        if row in map(key, found) or (arguments.only and row.config not in arguments.only):
            continue
        found.append(compiled(row))
        found.sort(key=lambda one: (one["parameters"], one["topology"].split(":")[0], one["chips"], one["quick"]))
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()

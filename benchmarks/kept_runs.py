"""Rows of a sweep whose runs were trained at several times: keeps finished runs, and makes the rows of all that are kept.

    joint-st sweep configs/sweeps/text_options.py --workers 2
    python -m benchmarks.kept_runs configs/sweeps/text_options.py

Some sweeps take longer than a machine is lent. So what the rows need of each finished run is kept in
`benchmarks/results/runs/SWEEP/`, and is small: the errors of every utterance, without its words, the dev set's error
rates in training, and what `joint-st confusions` has counted. `commit` and `device` are those that the run has
recorded; of a run of an earlier version, those of the checkout which kept it, unless `--commit` names another. The second command keeps what is new, and writes `benchmarks/results/SWEEP.json` again from all that is kept, with
the rows of `joint-st sweep --collect --json`; where there is nothing new it does the same.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from benchmarks import machine
from joint_st import storage
from joint_st.config import Config
from joint_st.data.confusions import read_confusions, units_in
from joint_st.errors import UserError
from joint_st.evaluation.report import write_rows
from joint_st.runs.starts import read_starts
from joint_st.sweeps import load_sweep
from joint_st.sweeps.collect import Counts, RunEvaluation, read_evaluation, rows_of
from joint_st.sweeps.status import look
from joint_st.sweeps.sweep import Job, Sweep

KEPT = machine.RESULTS / "runs"
DEV = ("step", "dev_full_context_wer", "dev_streaming_wer")
"""Columns of a run's `metrics.csv` that are kept where the dev set was evaluated."""
MONITORS = ("consistency", "random_distance", "audio_norm", "text_norm")
"""Columns of `metrics.csv` of which the last values are kept: what the consistency of the embeddings came to."""


def to_json(evaluation: RunEvaluation) -> dict[str, Any]:
    """Return what is kept of a run's evaluation, as JSON: no words, but a hash of them, so that only like is compared."""
    splits = []
    for (split, decoder), counts in evaluation.counts.items():
        contents = json.dumps([counts.ids, counts.spoken], ensure_ascii=False)
        errors: dict[str, dict[str, list[int]]] = {}
        for (head, subset), of_utterances in counts.errors.items():
            errors.setdefault(head, {})[subset] = of_utterances.tolist()
        splits.append(
            {
                "split": split,
                "decoder": decoder,
                "contents": hashlib.md5(contents.encode()).hexdigest(),
                "words": {subset: words.tolist() for subset, words in counts.words.items()},
                "errors": errors,
                "totals": counts.totals,
            }
        )
    return {"step": evaluation.step, "normalizer": evaluation.normalizer, "splits": splits}


def from_json(job: Job, kept: dict[str, Any]) -> RunEvaluation:
    """Return the evaluation that `to_json` kept."""
    counts = {}
    for one in kept["splits"]:
        words = {subset: np.array(values) for subset, values in one["words"].items()}
        errors = {
            (head, subset): np.array(values)
            for head, by_subset in one["errors"].items()
            for subset, values in by_subset.items()
        }
        ids = tuple((one["contents"], n) for n in range(len(words["all"])))
        counts[one["split"], one["decoder"]] = Counts(ids, errors, words, one["totals"])
    return RunEvaluation(job, kept["step"], kept["normalizer"], counts)


def fields(job: Job) -> dict[str, Any]:
    """Return the run's whole config but for its name."""
    return {name: value for name, value in job.config.model_dump(mode="json").items() if name != "name"}


def _as_now(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return a config that `fields` returned, with the defaults of fields that came later; None where it is of no kind
    that there still is."""
    try:
        found = Config.model_validate({**config, "name": "kept"}).model_dump(mode="json")
    except pydantic.ValidationError:
        return None
    return {name: value for name, value in found.items() if name != "name"}


def dev_rates(job: Job) -> Iterator[list[float]]:
    """Yield the step and the dev set's error rates (`DEV`) of each of a run's evaluations in training."""
    if job.directory.metrics.is_file():
        with job.directory.metrics.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                if row.get(DEV[1]):
                    yield [float(row[name]) for name in DEV]


def monitors(job: Job) -> dict[str, dict[str, float]]:
    """Return the last values of `MONITORS` in a run's `metrics.csv`, under one key; nothing where it has none."""
    found: dict[str, float] = {}
    if job.directory.metrics.is_file():
        with job.directory.metrics.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                found |= {name: round(float(row[name]), 4) for name in MONITORS if row.get(name)}
    return {"monitors": found} if found else {}


def read_out(job: Job) -> dict[str, Any]:
    """Return the word error rates of what the run's shared layers read, where `joint-st confusions` has counted them,
    and the share of text units that it counted as wrong."""
    file = job.directory.confusions
    counted = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not counted.get("wer"):
        return {}
    units = round(read_confusions(file, units_in(file)).error_rate, 4)
    subsets = {"read_subsets": counted["wer_of_subsets"]} if "wer_of_subsets" in counted else {}
    return {"read": counted["wer"], **subsets, "unit_errors": units, "read_on": counted["made_by"]["split"]}


def trained_by(job: Job, device: str, commit: str | None) -> dict[str, str]:
    """Return the commit and the device that trained a run, several with commas between; `device`, and `commit` or what is
    checked out, where the run does not say."""
    starts = read_starts(job.directory)
    if not starts:
        return {"commit": commit or machine.commit(), "device": device}
    named = {"commit": [one.commit.removeprefix("commit ") for one in starts], "device": [one.device for one in starts]}
    return {name: ", ".join(dict.fromkeys(found)) for name, found in named.items()}


def file_of(sweep: Sweep, job: Job) -> Path:
    """Return the file in which a run is kept."""
    return KEPT / sweep.file.stem / f"{job.run.arm}.seed_{job.run.seed}.json"


def keep(sweep: Sweep, device: str, commit: str | None = None) -> Iterator[Path]:
    """Keep the finished runs of a sweep that lie on this machine, and yield the files that are written. device, commit:
    what trained those that do not say it; None for what is checked out.

    A file in which only `commit` and `device` would change is left as it is.
    """
    for job in sweep.jobs:
        table = look(job).evaluation
        if not table:
            continue
        found = {
            "name": job.run.arm,
            "seed": job.run.seed,
            **trained_by(job, device, commit),
            "dev": list(dev_rates(job)),
            **read_out(job),
            **monitors(job),
            "config": fields(job),
            **to_json(read_evaluation(job, table)),
        }
        file = file_of(sweep, job)
        content = json.dumps(found, separators=(",", ":")) + "\n"
        if file.exists() and _lasting(file.read_text(encoding="utf-8")) == _lasting(content):
            continue  # kept before, perhaps on the device that trained it
        storage.write_whole(file, content)
        yield file


def _lasting(content: str) -> str:
    """Return what is kept of a run, as JSON, without what depends on where and by which checkout it was kept."""
    found = json.loads(content)
    return json.dumps({name: value for name, value in found.items() if name not in ("commit", "device")})


def kept(sweep: Sweep) -> Iterator[tuple[RunEvaluation, str]]:
    """Yield the evaluations that are kept of a sweep's runs, each with its device, in the order of the sweep.

    A run that is kept of another sweep alone, and was trained by the same config, is taken from there. Raises `UserError`
    where a run was trained by another config than the sweep now has.
    """
    others = [path for path in sorted(KEPT.glob("*/*.json")) if path.parent.name != sweep.file.stem]
    elsewhere = [json.loads(path.read_text(encoding="utf-8")) for path in others]
    configs = [_as_now(found["config"]) for found in elsewhere]
    for job in sweep.jobs:
        file, own = file_of(sweep, job), fields(job)
        if not file.exists():
            if own in configs:
                found = elsewhere[configs.index(own)]
                yield from_json(job, found), found["device"]
            continue
        found = json.loads(file.read_text(encoding="utf-8"))
        if _as_now(found["config"]) != own:
            raise UserError(f"{file}: of another config than {sweep.file} now has; train it again, or remove the file")
        yield from_json(job, found), found["device"]


def readings(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """Yield a row for each kept run of which it is known what its shared layers read: see `read_out`."""
    for job in sweep.jobs:
        file = file_of(sweep, job)
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if "read" in found:
            names = {"name": job.run.arm, "seed": job.run.seed, "split": found["read_on"]}
            subsets = {"wer_of_subsets": found["read_subsets"]} if "read_subsets" in found else {}
            yield names | {"unit_errors": found["unit_errors"], "wer": found["read"], **subsets}


def add_monitors(rows: list[dict], sweep: Sweep) -> None:
    """Add to the row of each arm the means over its kept seeds of the last `MONITORS`, as `monitors`, with `relative_distance`,
    the distance of matched embeddings as a share of that under a random alignment, which no scale changes."""
    by_arm: dict[str, list[dict[str, float]]] = {}
    for job in sweep.jobs:
        file = file_of(sweep, job)
        found = json.loads(file.read_text(encoding="utf-8")).get("monitors") if file.exists() else None
        if found:
            shares = {"relative_distance": found["consistency"] / found["random_distance"]}
            by_arm.setdefault(job.run.arm, []).append(found | shares)
    for row in rows:
        if found := by_arm.get(row["name"]):
            row["monitors"] = {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def options_of(about: str | None) -> argparse.Namespace:
    """Return the command line's sweep file and `--workdir`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="file of the sweep")
    parser.add_argument("--workdir", type=Path, help="directory of its runs, if not runs/sweeps/NAME")
    parser.add_argument("--commit", help="commit that trained those that do not say it, if another than here")
    return parser.parse_args()


def keep_and_collect(options: argparse.Namespace) -> tuple[list[dict], str, Path, Sweep]:
    """Keep the finished runs of a sweep, and return the rows of all that are kept, their devices, the file of its
    results, and the sweep. Ends with one line where there is none, or where they cannot be compared."""
    try:
        sweep = load_sweep(options.sweep, options.workdir)
        for file in keep(sweep, machine.device(), options.commit):
            print(f"kept {file}")
        found = list(kept(sweep))
        if not found:
            raise UserError(f"{sweep.directory}: no run is finished, and none is kept; train some first")
        print(f"{len(found)} of {len(sweep.jobs)} runs are kept")
        rows = rows_of([one for one, _ in found], references=sweep.references)
    except UserError as error:
        raise SystemExit(str(error)) from error
    devices = ", ".join(dict.fromkeys(device for _, device in found))
    return rows, devices, machine.RESULTS / f"{sweep.file.stem}.json", sweep


def main() -> None:
    rows, _, out, sweep = keep_and_collect(options_of(__doc__))
    add_monitors(rows, sweep)
    write_rows(rows, out)
    print(f"{out}: {len(rows)} rows")


if __name__ == "__main__":
    main()

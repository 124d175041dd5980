"""What is kept of what `joint-st confusions` has counted for the runs of a sweep."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from benchmarks import kept_runs


def test_what_shared_layers_read_is_kept_where_it_was_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_runs, "KEPT", tmp_path / "kept")
    # By hand: of 5 units one was heard as another, one missed and one more heard, so 3 of 5 are wrong.
    counted = {"heard_as": {"a": {"a": 2, "b": 1}, "b": {"b": 1}}, "missed": {"a": 1}, "inserted": {"b": 1}}
    counted |= {"units": ["<pad>", "a", "b"], "made_by": {"split": "dev"}, "wer": {"said": {"full_context": 0.25}}}
    jobs = []
    for arm, content in (("read", counted), ("units_alone", {**counted, "wer": {}}), ("not_counted", None)):
        file = tmp_path / f"{arm}.json"
        if content:
            file.write_text(json.dumps(content))
        jobs.append(SimpleNamespace(run=SimpleNamespace(arm=arm, seed=1), directory=SimpleNamespace(confusions=file)))
    expected = {"read": {"said": {"full_context": 0.25}}, "unit_errors": 0.6, "read_on": "dev"}
    assert [kept_runs.read_out(job) for job in jobs] == [expected, {}, {}]

    sweep = SimpleNamespace(jobs=jobs, file=Path("sweep.py"))
    for job in jobs[:2]:
        file = kept_runs.file_of(sweep, job)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept_runs.read_out(job)))
    row = {"name": "read", "seed": 1, "split": "dev", "unit_errors": 0.6, "wer": {"said": {"full_context": 0.25}}}
    assert list(kept_runs.readings(sweep)) == [row]

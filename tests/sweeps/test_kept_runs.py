"""What is kept of the runs of a sweep, and of what `joint-st confusions` has counted for them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import kept_runs
from joint_st import versions
from joint_st.errors import UserError
from joint_st.runs.starts import record_start
from joint_st.sweeps import load_sweep
from joint_st.sweeps.collect import rows_of


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


def test_the_last_monitors_of_consistency_are_kept_and_averaged_over_seeds(monkeypatch, tmp_path):
    monkeypatch.setattr(kept_runs, "KEPT", tmp_path / "kept")
    header = ",".join(("step", *kept_runs.MONITORS))
    jobs = []
    for seed, last in enumerate(("8,2,4,3,6", "8,3,4,5,8")):
        metrics = tmp_path / f"{seed}.csv"
        metrics.write_text(f"{header}\n4,9,9,9,9\n{last}\n8,,,,\n")
        jobs.append(
            SimpleNamespace(run=SimpleNamespace(arm="base", seed=seed), directory=SimpleNamespace(metrics=metrics))
        )
    sweep, rows = SimpleNamespace(jobs=jobs, file=Path("sweep.py")), [{"name": "base"}, {"name": "without"}]
    for job in jobs:
        file = kept_runs.file_of(sweep, job)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept_runs.monitors(job)))
    kept_runs.add_monitors(rows, sweep)
    expected = {"consistency": 2.5, "random_distance": 4, "audio_norm": 4, "text_norm": 7, "relative_distance": 0.625}
    assert rows == [{"name": "base", "monitors": expected}, {"name": "without"}]
    (tmp_path / "none.csv").write_text("step,loss\n1,2\n")
    assert kept_runs.monitors(SimpleNamespace(directory=SimpleNamespace(metrics=tmp_path / "none.csv"))) == {}


def test_runs_that_were_kept_give_the_rows_that_they_gave(swept, rows, monkeypatch, tmp_path):
    monkeypatch.setattr(kept_runs, "KEPT", tmp_path)
    (swept.jobs[0].directory.metrics).write_text(
        "step,dev_full_context_wer,dev_streaming_wer\n1,,\n2,0.5,0.75\n3,,\n4,0.25,0.5\n"
    )
    files = list(kept_runs.keep(swept, "a laptop"))
    assert [file.name for file in files] == [f"{job.run.arm}.seed_{job.run.seed}.json" for job in swept.jobs[:-1]]
    assert json.loads(files[0].read_text())["dev"] == [[2, 0.5, 0.75], [4, 0.25, 0.5]]
    assert not any(word in file.read_text() for file in files for word in ("called", "noon"))  # as the texts have

    # Kept again on another device, only a run that was trained further is written.
    assert list(kept_runs.keep(swept, "another")) == []
    with swept.jobs[0].directory.metrics.open("a") as metrics:
        metrics.write("6,0.125,0.25\n")
    before = files[0].read_text()
    assert list(kept_runs.keep(swept, "another")) == files[:1]
    assert json.loads(files[0].read_text())["device"] == "another"
    files[0].write_text(before)

    # What a run has recorded of its starts is kept in place of what the caller says.
    directory = swept.jobs[0].directory
    for device in ("a CPU", "a TPU", "a TPU"):
        record_start(directory, 0, "1 × cpu", device, 1, 4)
    by_versions = versions.own_commit().removeprefix("commit ")
    assert kept_runs.trained_by(swept.jobs[0], "another", "a commit") == {
        "commit": by_versions,
        "device": "a CPU, a TPU",
    }
    assert kept_runs.trained_by(swept.jobs[1], "another", "a commit") == {"commit": "a commit", "device": "another"}
    directory.starts.unlink()

    # The runs themselves are gone; one more sweep of the same file finds what is kept.
    again = load_sweep(swept.file, tmp_path / "lost")
    assert list(kept_runs.keep(again, "another")) == []
    found = list(kept_runs.kept(again))
    assert {device for _, device in found} == {"a laptop"}
    assert {row["name"]: row for row in rows_of([one for one, _ in found], references=again.references)} == rows

    # What another sweep keeps of the same config counts, whatever its name there.
    other = tmp_path / "another" / "plainer.seed_0.json"
    other.parent.mkdir()
    files[0].rename(other)
    assert {one.job.name for one, _ in kept_runs.kept(again)} == {one.job.name for one, _ in found}
    other.rename(files[0])

    # A field that came later has its default; another value is another config.
    text = files[0].read_text()
    assert '"beta2":0.98,' in text
    files[0].write_text(text.replace('"beta2":0.98,', ""))
    assert len(list(kept_runs.kept(again))) == len(found)
    files[0].write_text(text.replace('"beta1":0.3', '"beta1":0.4'))
    with pytest.raises(UserError, match=f"{files[0].name}: of another config than"):
        list(kept_runs.kept(again))
    files[0].write_text(text.replace('"contents":"', '"contents":"0'))
    with pytest.raises(UserError, match="evaluated on different utterances of test"):
        rows_of([one for one, _ in kept_runs.kept(again)])

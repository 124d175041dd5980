"""A sweep whose runs are in a bucket, and its logs and locks on this machine."""

import json

import pytest

from joint_st import storage
from joint_st.sweeps import load_sweep
from joint_st.sweeps.launchers import last_sign, train_arguments
from joint_st.sweeps.run_sweep import run_sweep
from joint_st.sweeps.status import progress, state_in_words
from tests.sweeps.conftest import write_sweep

RUNS = "yield Run('a', seed=1)\nyield Run('b', {'optimizer.beta1': 0.3}, seed=1)"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_trained_and_collected_as_on_a_disk(cloud, bucket, here, fake, capsys):
    file, there = write_sweep(here, RUNS, "REFERENCE = 'a'"), f"gs://{bucket}/sweeps/one"
    assert run_sweep(file, workdir=there, workers=2, command=fake) == 0
    logs = here / "runs" / "sweeps" / bucket / "sweeps" / "one"
    told = capsys.readouterr()
    assert f"{there}: logs and locks are in runs/sweeps/{bucket}/sweeps/one, which a sweep on another" in told.err
    assert sorted(str(path.relative_to(logs)) for path in logs.rglob("*.l*")) == [
        "a/seed_1.lock",
        "a/seed_1.log",
        "b/seed_1.lock",
        "b/seed_1.log",
    ]
    assert {name.split("/")[2] for name in cloud.names(bucket, "sweeps/one/")} == {"a", "b"}
    assert run_sweep(file, workdir=here / "disk", workers=2, command=fake) == 0
    for name, workdir in (("bucket", there), ("disk", here / "disk")):
        assert run_sweep(file, workdir=workdir, collect_only=True, json_file=here / f"{name}.json") == 0
    assert json.loads((here / "bucket.json").read_text()) == json.loads((here / "disk.json").read_text())
    files = {f"{name}_file": storage.path(f"gs://{bucket}/table/{name}") for name in ("csv", "markdown", "plot")}
    assert run_sweep(file, workdir=there, collect_only=True, **files) == 0
    assert set(cloud.names(bucket, "table/")) == {"table/csv", "table/markdown", "table/plot"}
    assert cloud.text(bucket, "table/csv").startswith("name,") and not (here / "gs:").exists()
    # What is finished is not trained again.
    capsys.readouterr()
    assert run_sweep(file, workdir=there, workers=2, command=fake) == 0
    assert "2 of 2 runs are finished already" in capsys.readouterr().err
    assert cloud.text(bucket, "sweeps/one/a/seed_1/starts") == "started\n"


def test_how_far_it_is(cloud, bucket, here):
    found = load_sweep(write_sweep(here, RUNS), f"gs://{bucket}/sweeps/one/")
    job = found.jobs[0]
    assert train_arguments(job)[2:4] == ["--workdir", f"gs://{bucket}/sweeps/one/a/seed_1"]
    assert state_in_words(job) == "to do" and last_sign(job) == 0
    job.log.parent.mkdir(parents=True)
    job.log.write_text("job 7 is queued\n")
    job.submission.touch()
    assert progress(job).state == "submitted"
    run = job.directory
    storage.write_whole(run.config, job.config.model_dump_json())
    storage.write_whole(
        run.metrics,
        "step,loss,audio_seconds_per_second,dev_full_context_wer\r\n1,2.5,40.0,\r\n2,,,0.5\r\n2,2.25,41.0,\r\n3,2.",
    )
    seen = progress(job)
    assert (seen.state, seen.step, seen.steps, seen.speed, seen.dev_wer) == ("running", 2, 4, 41.0, 0.5)
    assert 0 < seen.seconds_left < 60 and last_sign(job) > 0

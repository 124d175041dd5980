"""What each script runs, compared with `golden/*.txt`. After an intended change, renew them and read the diff:

JOINT_ST_RENEW_GOLDEN=1 python -m pytest -n 0 tests/launch/test_golden.py
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.launch.scripts import git

GOLDEN = Path(__file__).parent / "golden"
POD = "tpu_vm.sh --name pod --zone europe-west4-b"
TRAIN = "-- joint-st train configs/quickstart.py --workdir gs://bucket/runs/quickstart"
LINES = {
    "tpu_vm_spot": f"{POD} --type v5litepod-256 --spot --delete-at-end {TRAIN}",
    "tpu_vm_no_queue": f"{POD} --type v4-32 --reserved --no-queue --project speech --timeout 600 "
    "--ssh-flag=--internal-ip --create-flag=--network=inside -- "
    "env 'A=it'\\''s $HOME' joint-st train 'my config.py' --workdir gs://bucket/run",
    "tpu_vm_stop": f"{POD} --stop",
    "tpu_vm_delete": f"{POD} --delete",
    "gke": f"gke.sh --cluster speech --name quickstart --type v5litepod-256 --slices 2 --zone europe-west4-b {TRAIN}",
    "gke_image": "gke.sh --cluster speech --name quickstart --type v6e-64 --image gcr.io/speech/joint_st --xpk=--spot "
    f"--max-relaunches 3 {TRAIN}",
    "gke_delete": "gke.sh --cluster speech --name quickstart --project speech --delete",
    "slurm": "slurm.sh --name quickstart --nodes 4 -- joint-st train configs/quickstart.py --workdir /shared/run",
    "slurm_gpus": "slurm.sh --name 'two words' --nodes 2 --tasks-per-node 8 --gpus-per-node a100:8 --time 1-00:00:00 "
    "--partition speech --sbatch=--account=speech -- joint-st train configs/quickstart.py",
    "local": "local.sh -n 2 --port 20000 -- joint-st train configs/quickstart.py",
    "local_devices": "local.sh -n 3 --devices-per-process 2 --port 20000 --logs 'my logs' -- "
    "joint-st evaluate runs/one",
}


@pytest.mark.parametrize("name", LINES)
def test_dry_run_prints_what_it_would_run(scripts, checkout, name):
    script, *arguments = shlex.split(LINES[name])
    result = scripts.run(script, "--dry-run", *arguments)
    assert result.returncode == 0, result.stderr
    printed = result.stdout
    for path, stands in (
        (git(checkout, "rev-parse", "HEAD^{tree}").strip(), "TREE"),
        (str(checkout), "CHECKOUT"),
        (str(scripts.folder / "tmp"), "TMP"),
    ):
        printed = printed.replace(path, stands)
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("JOINT_ST_RENEW_GOLDEN"):
        file.write_text(f"$ launch/{LINES[name]}\n{printed}")
    assert file.read_text() == f"$ launch/{LINES[name]}\n{printed}"
    # It ran nothing, and each line is one command that a shell reads.
    assert not list(scripts.folder.glob("*calls*"))
    assert all(shlex.split(line) for line in printed.splitlines())
    for other in GOLDEN.glob("*.txt"):
        assert other.stem in LINES, f"{other} belongs to no line"

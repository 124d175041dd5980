"""Every way in which a file of a run may be damaged: refused in one line that names it, or read as it was."""

from __future__ import annotations

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st import storage
from joint_st.cli import main
from joint_st.errors import UserError
from joint_st.runs import checksums
from joint_st.runs.checkpoints import Checkpoints
from joint_st.runs.directory import COMPLETE, RunDirectory
from tests.runs.test_bucket import state_of

# Orbax is told no shardings when it reads arrays for comparison.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

WERS = {1: 0.5, 2: 0.2, 3: 0.4}
STEP = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three checkpoints, the second the best."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoints"
    with Checkpoints(folder, keep_latest=3) as checkpoints:
        for step, wer in WERS.items():
            checkpoints.save(step, state_of(step), {"step": step, "wer": wer}, wer)
    return folder


@pytest.fixture
def saved(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "checkpoints")


def flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGES = {
    "empty": lambda data, other: b"",
    "cut in half": lambda data, other: data[: len(data) // 2],
    "the last byte off": lambda data, other: data[:-1],
    "random": lambda data, other: np.random.default_rng(0).bytes(len(data)),
    "zeros": lambda data, other: bytes(len(data)),
    "one bit": lambda data, other: flipped(data),
    "another step's": lambda data, other: other,
    "deleted": None,
}


def damaged(folder, unverified=False):
    """Yield each damage of each file in turn: (the file, the damage); files are as they were after it."""
    for file in sorted(path for path in (folder / str(STEP)).rglob("*") if path.is_file()):
        if file.name == checksums.FILE and unverified:
            continue
        data = file.read_bytes()
        other = folder / "1" / file.relative_to(folder / str(STEP))
        for name, damage in DAMAGES.items():
            content = damage and damage(data, other.read_bytes() if other.is_file() else data)
            if content == data:
                continue
            file.unlink() if damage is None else file.write_bytes(content)
            yield file, name
            file.write_bytes(data)


def read(folder, which=str(STEP)):
    """Load a checkpoint as `load_trained` does; return its facts and a part of its state."""
    with Checkpoints(folder, read_only=True) as checkpoints:
        step = checkpoints.choose(which)
        checkpoints.check(step)
        facts = checkpoints.facts(step)
        return facts, checkpoints.restore_part(step, {"average": jax.tree.map(jnp.zeros_like, state_of(0).average)})


def test_every_file_of_a_checkpoint_is_verified(saved, capsys):
    found = {}
    for file, name in damaged(saved):
        try:
            facts, part = read(saved)
        except UserError as error:
            line = str(error)
            # Another step's checksums fit none of this one's files; the first of them is named.
            swapped = file.name == checksums.FILE and name == "another step's"
            assert line.startswith(f"{file}: ") or swapped
            assert line.endswith("whole: --checkpoint 2") and "\n" not in line, name
            found[file.relative_to(saved / str(STEP)).as_posix()] = line
        else:
            # Orbax writes these at last, and nobody reads them; without checksums nothing can be verified.
            last = file.name in ("_CHECKPOINT_METADATA", COMPLETE)
            assert last or (file.name, name) == (checksums.FILE, "deleted"), (file, name)
            assert facts == {"step": STEP, "wer": 0.4}
            np.testing.assert_array_equal(part["average"]["a"], state_of(STEP).average["a"])
    assert len(found) > 8 and {"facts/metadata", "metrics/metrics", "state/manifest.ocdbt"} < found.keys()
    assert capsys.readouterr().err.count("not verified") == 1


def test_without_checksums_damage_is_told_in_one_line_or_does_not_matter(saved, capsys):
    """An earlier version saved none: nothing is compared, but an unreadable file still gives no traceback."""
    (saved / str(STEP) / checksums.FILE).unlink()
    refused = 0
    for file, name in damaged(saved, unverified=True):
        if name not in ("empty", "cut in half", "deleted"):
            continue
        try:
            read(saved)
        except UserError as error:
            assert str(error).endswith("whole: --checkpoint 2") and "\n" not in str(error), (file, name)
            refused += 1
    assert refused > 4
    shutil.rmtree(saved / str(STEP) / "facts")
    with pytest.raises(UserError, match=rf"/{STEP}/facts/metadata: missing; the newest checkpoint.*: --checkpoint 2$"):
        read(saved)


def test_the_best_is_chosen_by_facts_that_are_verified(saved):
    assert read(saved, "best")[0]["step"] == 2 == RunDirectory(saved.parent).best_steps()[0]
    facts = saved / "3" / "facts" / "metadata"
    facts.write_text(facts.read_text().replace("0.4", "0.1"))
    for ask in (lambda: read(saved, "best"), lambda: RunDirectory(saved.parent).best_steps()):
        with pytest.raises(UserError, match=r"/3/facts/metadata: damaged: not what was written"):
            ask()
    assert read(saved, "1")[0]["step"] == 1


def test_the_newest_that_is_whole_is_named_also_where_several_are_damaged(saved):
    (saved / "2" / "facts" / "metadata").unlink()
    shutil.rmtree(saved / "3" / "state" / "d")
    with pytest.raises(UserError, match=r"/3/state/d/\w+: missing; .*: --checkpoint 1$"):
        read(saved)
    with pytest.raises(UserError, match=r"/2/facts/metadata: missing; .*: --checkpoint 1$"):
        read(saved, "2")
    shutil.rmtree(saved / "1" / "state")
    with pytest.raises(UserError, match="/2/facts/metadata: missing; no other checkpoint is whole: copy the run again"):
        read(saved, "2")


def test_another_checkpoints_metric_does_not_matter(saved):
    """Orbax would read the metrics of all checkpoints to restore one."""
    (saved / "2" / "metrics" / "metrics").write_bytes(b"\xff")
    facts, part = read(saved)
    assert facts == {"step": 3, "wer": 0.4}
    np.testing.assert_array_equal(part["average"]["a"], state_of(3).average["a"])


def test_training_says_from_which_step_it_can_go_on(saved):
    (saved / "3" / "facts" / "metadata").write_text("{}")
    with Checkpoints(saved, keep_latest=3) as checkpoints, pytest.raises(UserError) as caught:
        checkpoints.check(3)
    folder = saved / "3"
    assert str(caught.value) == (
        f"{folder}/facts/metadata: damaged: 2 bytes, where 23 were written; copy {folder} again, or remove it: "
        "then the same command goes on from step 2"
    )
    (saved / "2" / "metrics" / "metrics").write_text("")
    with pytest.raises(UserError, match=r"/2/metrics/metrics: damaged: 0 bytes, .*; copy .*/2 again, or remove it$"):
        Checkpoints(saved, keep_latest=3)


def test_the_flag_skips_all_of_it(saved):
    facts = saved / "3" / "facts" / "metadata"
    facts.write_text(facts.read_text().replace("0.4", "0.1"))
    checksums.verify(False)
    try:
        assert read(saved, "best")[0] == {"step": 3, "wer": 0.1}
    finally:
        checksums.verify(True)


def test_a_bucket_compares_by_its_own_checksums(cloud, bucket, whole, tmp_path):
    """This holds for a run that was saved there, one copied there from a disk, and one copied back."""
    there = storage.path(f"gs://{bucket}/run/checkpoints")
    cloud.upload(whole, bucket, "copied/checkpoints")
    with Checkpoints(there, keep_latest=3) as checkpoints:
        for step, wer in WERS.items():
            checkpoints.save(step, state_of(step), {"step": step, "wer": wer}, wer)
    back = cloud.download(bucket, "run/checkpoints", tmp_path / "back")
    copied = storage.path(f"gs://{bucket}/copied/checkpoints")
    for place in (there, copied, back):
        assert read(place)[0] == {"step": 3, "wer": 0.4} and checksums.is_there(place / "3")
    before = cloud.requests.copy()
    with Checkpoints(there, read_only=True) as checkpoints:
        checkpoints.check(3)
    read_objects = {name for (method, name), count in (cloud.requests - before).items() if "/state/ocdbt" in name}
    assert not read_objects, "read, where a listing tells"
    for prefix, place in (("run", there), ("copied", copied)):
        name = next(name for name in cloud.names(bucket, f"{prefix}/checkpoints/3/state/ocdbt") if "/d/" in name)
        cloud.put(bucket, name, flipped(cloud.buckets[bucket][name].data))
        with pytest.raises(UserError, match=rf"^gs://{bucket}/{name}: damaged: not what.*: --checkpoint 2$"):
            read(place)


@pytest.mark.parametrize("name", ["../out", "/etc/hostname", "a/../../out"])
def test_checksums_lead_nowhere_else(tmp_path, name):
    checksums.write(tmp_path, {name: storage.Checksum(1, "0" * 32)})
    assert checksums.damage(tmp_path) == f"{tmp_path}/checksums.json: damaged: not what was written"


def test_the_inventories_and_the_config_of_a_run_are_verified(trained, tmp_path, capsys):
    """Commands refuse each damage in one line; a config's fields about weights are those of the training."""
    run = RunDirectory(shutil.copytree(trained, tmp_path / "run"))
    files = sorted(run.inventories())
    assert {file.name for file in files} == {"tokenizer.json", "vocabulary.json", "languages.json"}
    for file in files:
        data = file.read_bytes()
        for damage in (None, flipped(data)):
            file.unlink() if damage is None else file.write_bytes(damage)
            assert main(["evaluate", str(run.root), "--data", "x=x.jsonl"]) == 2
            line = capsys.readouterr().err
            assert line.startswith(f"joint-st: error: {file}: ") and line.count("\n") == 1
            assert line.endswith("copy it again from where the run is whole\n")
        file.write_bytes(data)
    content = json.loads(run.config.read_text())
    content["model"]["left_context"] += 1
    run.config.write_text(json.dumps(content))
    assert main(["evaluate", str(run.root), "--data", "x=x.jsonl"]) == 2
    line = capsys.readouterr().err
    assert "config.json: damaged, or edited: model.left_context is 17, and the checkpoint of step" in line
    assert line.endswith("was trained with 16; set it to that\n") and line.count("\n") == 1
    run.config.write_text(json.dumps(content)[:-9])
    assert main(["evaluate", str(run.root), "--data", "x=x.jsonl"]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""Two trainings in the directory of one run: the second is refused in one line, and a process that has ended holds
nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from joint_st import storage
from joint_st.cli import main
from joint_st.config import save
from joint_st.errors import UserError
from joint_st.runs import lock
from joint_st.runs.lock import NAME, Holder, Lease, Lock, check_held, holding
from tests.tiny import environment, tiny_config

HOLD = """
import sys, time
from joint_st import storage
from joint_st.runs import lock
lock.BEAT_SECONDS = 0.2
with lock.holding(storage.path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(lock, "SILENT_SECONDS", 3.0)


@pytest.fixture
def hold():
    """`hold(place)`: a process that holds a run."""
    started = []

    def start(place) -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLD, str(place)], env=environment(), stdout=subprocess.PIPE, text=True
            )
        )
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    if request.param == "disk":
        return tmp_path / "run"
    request.getfixturevalue("cloud")
    return storage.path(f"gs://{request.getfixturevalue('bucket')}/run")


def test_the_second_is_refused_and_a_killed_one_holds_nothing(place, hold):
    process = hold(place)
    for _ in range(2):
        with pytest.raises(UserError) as caught, holding(place):
            pass
        told = rf"another training works in it \(process {process.pid} on .*, since 20"
        assert caught.match(f"^{place}: {told}") and "\n" not in str(caught.value)
    process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    with holding(place):
        check_held(place)
    assert time.monotonic() - began < 2, "it waits for nobody"
    with holding(place):
        pass


def test_what_is_let_go_of_leaves_nothing_behind(place):
    for _ in range(2):
        with holding(place):
            assert Holder.read((place / lock.NAME).read_bytes()).process == os.getpid()
    assert not storage.is_remote(place) or not (place / lock.NAME).exists()
    assert storage.is_remote(place) or not place.exists()


def test_train_says_who_works_there_and_touches_nothing(tmp_path, capsys, hold):
    config = tmp_path / "config.json"
    save(tiny_config(tmp_path), config)
    process = hold(tmp_path / "run")
    assert main(["train", str(config), "--workdir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"joint-st: error: {tmp_path}/run: another training works in it (process {process.pid} on ")
    assert error.endswith("); wait for it, end it, or name another --workdir\n") and error.count("\n") == 1
    assert [file.name for file in (tmp_path / "run").iterdir()] == [lock.NAME]


def test_places_where_no_run_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file, where the directory of a run should be"), holding(tmp_path / "file"):
        pass
    with (
        pytest.raises(UserError, match="/file/x: cannot be written: Not a directory"),
        holding(tmp_path / "file" / "x"),
    ):
        pass


def test_a_lease_of_a_host_that_vanished_ends_by_itself(cloud, bucket, capsys):
    root = storage.path(f"gs://{bucket}/run")
    elsewhere = dataclasses.replace(Holder.this(), host="host-b", place="host-b 1 2", process=7)
    cloud.put(bucket, "run/.lock", elsewhere.content())
    began = time.monotonic()
    with holding(root):
        assert 1 < time.monotonic() - began < 6
    assert "waits, because process 7 on host-b, since" in capsys.readouterr().err
    # One that was damaged too.
    cloud.put(bucket, "run/.lock", b'{"host')
    with holding(root):
        pass
    assert cloud.names(bucket) == []


def test_one_that_was_silent_for_long_saves_nothing_once_another_has_the_run(cloud, bucket):
    root = storage.path(f"gs://{bucket}/run")
    lease = Lease(root)
    lease.check()
    other = dataclasses.replace(Holder.this(), host="host-b", process=8)
    cloud.put(bucket, "run/.lock", other.content())
    until = time.monotonic() + 10
    with pytest.raises(UserError, match="process 8 on host-b, since .* has taken it, because this one was silent"):
        while time.monotonic() < until:
            lease.check()
            time.sleep(0.05)
    lease.release()
    assert json.loads(cloud.text(bucket, "run/.lock"))["process"] == 8


def test_a_lease_outlives_a_service_that_refuses_for_a_while(cloud, bucket):
    root = storage.path(f"gs://{bucket}/run")
    lease = Lease(root)
    before = cloud.buckets[bucket]["run/.lock"].generation
    cloud.refuse = lambda method, bucket, name: 403 if name.endswith(".lock") else None
    time.sleep(0.6)
    cloud.refuse = lambda *_: None
    time.sleep(0.6)
    lease.check()
    assert cloud.buckets[bucket]["run/.lock"].generation > before
    lease.release()
    assert cloud.names(bucket) == []


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def flock(descriptor, how):
        raise OSError(lock.errno.ENOLCK, "no locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with holding(tmp_path):
        pass
    assert "its file system has no locks; start no second training in it" in capsys.readouterr().err


def test_a_directory_that_nothing_came_into_is_removed_again(tmp_path):
    with holding(tmp_path / "runs" / "new"):
        assert (tmp_path / "runs" / "new").is_dir()
    assert not (tmp_path / "runs" / "new").exists()
    with holding(tmp_path / "kept"):
        (tmp_path / "kept" / "config.json").write_text("{}")
    assert (tmp_path / "kept" / "config.json").exists()
    (tmp_path / "theirs").mkdir()
    with holding(tmp_path / "theirs"):
        pass
    assert (tmp_path / "theirs").is_dir()


def test_a_directory_that_was_moved_is_no_longer_held(tmp_path):
    (tmp_path / "run").mkdir()
    with holding(tmp_path / "run"):
        check_held(tmp_path / "run")
        (tmp_path / "run").rename(tmp_path / "aside")
        with pytest.raises(UserError, match=r"run: was moved or removed; this training, .* saves nothing more"):
            check_held(tmp_path / "run")
        other = Lock(tmp_path / "run")
        with pytest.raises(UserError, match="run: was moved or removed"):
            check_held(tmp_path / "run")
    assert (tmp_path / "run" / NAME).exists()
    other.check()
    other.release()


def test_a_file_system_whose_numbers_of_files_change_takes_no_lock_away(tmp_path, monkeypatch):
    with holding(tmp_path):
        monkeypatch.setattr(os.path, "samestat", lambda *_: False)
        check_held(tmp_path)
        (tmp_path / NAME).write_bytes(Holder.this().content())
        with pytest.raises(UserError, match="was moved or removed"):
            check_held(tmp_path)
        monkeypatch.undo()


def test_a_file_that_was_removed_is_taken_again_unless_another_has(tmp_path):
    first = Lock(tmp_path)
    (tmp_path / NAME).unlink()
    first.check()
    with pytest.raises(UserError, match=f"another training works in it .process {os.getpid()} on "):
        Lock(tmp_path)
    (tmp_path / NAME).unlink()
    second = Lock(tmp_path)
    with pytest.raises(
        UserError, match=f"its .lock was removed, and process {os.getpid()} on .* has worked in it since"
    ):
        first.check()
    second.check()
    second.release()
    with pytest.raises(UserError, match="and another training has worked in it since"):
        first.check()
    first.release()


def test_a_file_that_was_removed_while_one_waited_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "WAIT_SECONDS", 20)
    first = Lock(tmp_path / "run")
    waiting = threading.Thread(target=lambda: found.append(Lock(tmp_path / "run")))
    found: list[Lock] = []
    waiting.start()
    time.sleep(0.1)
    first.release()
    waiting.join()
    (second,) = found
    assert os.path.samestat(os.stat(tmp_path / "run" / NAME), os.fstat(second._descriptor))
    second.release()

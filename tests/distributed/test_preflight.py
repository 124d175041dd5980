"""Mistakes that usually make a job on several hosts hang are reported in one line that names the host."""

import time

import pytest

from joint_st.config import override
from joint_st.distributed import preflight
from joint_st.distributed.peers import Peers
from joint_st.distributed.preflight import check_code, check_config, check_data, check_directory
from joint_st.errors import UserError
from tests.distributed.fake_store import FakeStore, on_all
from tests.tiny import tiny_config


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Shorten all waits for answers that do not come."""
    for name in ("ANSWER_SECONDS", "DATA_SECONDS"):
        monkeypatch.setattr(preflight, name, 0.5)


def assert_told(found, message):
    """Check that process 0 reports it, and that the others do not continue."""
    assert isinstance(found[0], UserError) and str(found[0]) == message
    assert all(isinstance(other, UserError) for other in found[1:])


def test_nothing_is_amiss(tmp_path):
    def check(peers):
        check_code(peers)
        check_config(peers, tiny_config(tmp_path))
        check_directory(peers, tmp_path)
        check_data(peers, "ab", "data.train")
        return "passed"

    assert on_all(check) == ["passed"] * 3
    assert check(Peers()) == "passed"  # alone
    assert not list(tmp_path.iterdir())


def test_other_versions():
    def check(peers):
        check_code(peers, {"jax": "0.10.2", "joint_st's sources": "12ab" if peers.index == 2 else "0f0f"})

    message = (
        "process 2 on host-c: joint_st's sources 12ab there, 0f0f in process 0 on host-a; install the same everywhere"
    )
    assert_told(on_all(check), message)


def test_sources_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("joint_st.__file__", str(tmp_path / "__init__.py"))
    fingerprints = []
    for name, text in (("a.py", "1"), ("a.py", "2"), ("a.txt", "2"), ("b.py", "")):
        (tmp_path / name).write_text(text)
        fingerprints.append(preflight.sources())
    a, b, c, d = fingerprints
    assert a != b and b == c and c != d


def test_another_config(tmp_path):
    def check(peers):
        changes = {"optimizer.beta1": 0.8, "training.steps": 7} if peers.index == 1 else {}
        check_config(peers, override(tiny_config(tmp_path), changes))

    message = (
        "process 1 on host-b: optimizer.beta1: 0.8 there, 0.9 in process 0 on host-a; start all with the same config"
    )
    assert_told(on_all(check), message)


def test_another_directory(tmp_path):
    roots = [tmp_path / name for name in ("shared", "shared", "own")]
    for root in roots:
        root.mkdir(exist_ok=True)
    found = on_all(lambda peers: check_directory(peers, roots[peers.index], 0.3))
    assert_told(
        found,
        f"process 2 on host-c: {roots[2]} is not the directory that process 0 on host-a made there; give a --workdir "
        "that all hosts share",
    )


def test_an_older_check_of_the_directory_is_no_proof(tmp_path):
    """A job that was killed has left its files."""
    for name in "ab":
        (tmp_path / name / ".preflight").mkdir(parents=True)
        (tmp_path / name / ".preflight" / "0").write_text("old")
    found = on_all(lambda peers: check_directory(peers, tmp_path / "ab"[peers.index], 0.3), 2)
    assert "process 1 on host-b:" in str(found[0]) and "is not the directory that" in str(found[0])


def test_a_directory_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(path, text):
        if path.name == "1":
            raise PermissionError(13, "Permission denied", str(path))
        path.open("w").write(text)

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    message = f"process 1 on host-b: {tmp_path} cannot be written: Permission denied; give all hosts the right to"
    assert_told(on_all(lambda peers: check_directory(peers, tmp_path, 0.3)), message)


def test_other_data():
    message = (
        "process 1 on host-b: data.train: other utterances there than in process 0 on host-a; copy the same data to "
        "all hosts"
    )
    assert_told(on_all(lambda peers: check_data(peers, "ba"[peers.index == 1], "data.train"), 2), message)


def test_a_process_that_does_not_answer():
    began = time.monotonic()
    found = on_all(lambda peers: peers.index == 1 or check_data(peers, "a", "data.train"))
    assert str(found[0]) == ("process 1 on host-b: no fingerprint of data.train for 0.5 s; check its log")
    assert isinstance(found[2], UserError)
    assert time.monotonic() - began < 10


def test_process_0_is_the_first():
    """The others begin when it is done, and none continues before all have come."""
    log = []

    def work(peers):
        with peers.process_zero_first("work"):
            log.append(f"{peers.index} begins")
            time.sleep(0.1)
            log.append(f"{peers.index} ends")
        peers.wait("end")
        log.append(f"{peers.index} goes on")

    on_all(work)
    assert log[:2] == ["0 begins", "0 ends"]
    assert sorted(log[2:6]) == ["1 begins", "1 ends", "2 begins", "2 ends"]
    assert sorted(log[6:]) == ["0 goes on", "1 goes on", "2 goes on"]


def test_alone_there_is_nobody_to_wait_for():
    peers = Peers()
    with peers.process_zero_first("work"):
        peers.wait("anything")
    assert peers.is_first and not peers.several and FakeStore(1).get("nothing", 0) is None

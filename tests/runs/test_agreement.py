"""The checkpoint that all processes take, although their hosts see the files of a run differently."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from joint_st.distributed.peers import Peers
from joint_st.errors import UserError
from joint_st.runs import agreement, trained
from joint_st.runs.agreement import agreed_choice, agreed_latest
from joint_st.runs.checkpoints import Checkpoints
from joint_st.training import weights
from tests.distributed.fake_store import FakeStore, on_all
from tests.training.toy_run import CONFIG, begin, save_run

RUN = Path("run/checkpoints")


class Seen:
    """The checkpoints as one host sees them: the steps in its list of the folder, and those in each later one."""

    directory = RUN

    def __init__(self, *lists: tuple[int, ...], files: str = "same"):
        self._lists = list(lists)
        self._files = files

    def latest(self) -> int | None:
        return max(self._lists[0], default=None)

    def has(self, step: int) -> bool:
        return step in self._lists[0]

    def choose(self, which: str) -> int:
        if not self._lists[0]:
            raise UserError("no checkpoint")
        return self.latest() if which == "latest" else int(which)

    def identity(self, step: int) -> str:
        return f"{self._files} {step}"

    def look_again(self) -> None:
        self._lists = self._lists[1:] or self._lists


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(agreement, "SEEN_SECONDS", 0.3)
    monkeypatch.setattr(agreement, "CHOICE_SECONDS", 0.5)


def told(found: list) -> str:
    """Return the error of process 0, in one line; the others only wait for it."""
    assert isinstance(found[0], UserError) and "\n" not in str(found[0])
    return str(found[0])


def latest(*hosts: Seen) -> list:
    return on_all(lambda peers: agreed_latest(hosts[peers.index], peers), len(hosts))


def choice(which: str, *hosts: Seen) -> list:
    return on_all(lambda peers: agreed_choice(hosts[peers.index], which, peers), len(hosts))


def test_one_process_takes_what_it_sees():
    assert agreed_latest(Seen((2, 4)), Peers()) == 4 and agreed_latest(Seen(()), Peers()) is None
    assert agreed_choice(Seen((2, 4)), "2", Peers()) == 2


def test_the_others_wait_until_they_see_the_latest_one_of_process_0():
    assert latest(Seen((2, 4)), Seen((2,), (2,), (2, 4)), Seen((), (4,))) == [4, 4, 4]
    assert latest(Seen(()), Seen(()), Seen((2,), ())) == [None, None, None]


@pytest.mark.parametrize(
    ("first", "other", "here", "there"),
    [
        ((2, 4), (2,), "that of step 4", "that of step 2"),
        ((2, 4), (), "that of step 4", "none"),
        ((2,), (2, 4), "that of step 2", "that of step 4"),
        ((), (2,), "none", "that of step 2"),
    ],
)
def test_a_host_that_keeps_seeing_another_latest_one_is_named(first, other, here, there):
    assert told(latest(Seen(first), Seen(first), Seen(other))) == (
        f"process 2 on host-c: {RUN}: the latest checkpoint is {there} there, {here} in process 0 on host-a; "
        "start again when all hosts see the same files"
    )


def test_all_take_the_checkpoint_that_process_0_chooses():
    """The run may get others meanwhile."""
    assert choice("latest", Seen((2, 4)), Seen((2,), (2, 4, 6)), Seen((4, 6))) == [4, 4, 4]
    assert told(choice("latest", Seen((2, 4)), Seen((2,)))) == (
        f"process 1 on host-b: {RUN}: no checkpoint 4 there, which process 0 on host-a has chosen; "
        "give all hosts the same run"
    )


def test_other_files_of_the_same_step_are_refused():
    expected = (
        f"process 1 on host-b: {RUN}/4: not the same files there as in process 0 on host-a; give all hosts the same run"
    )
    assert told(choice("4", Seen((4,)), Seen((4,), files="other"))) == expected
    assert told(latest(Seen((4,)), Seen((4,), files="other"))) == expected


def test_no_choice_of_process_0_ends_the_others(monkeypatch):
    monkeypatch.setattr(agreement, "CHOICE_SECONDS", 0.2)
    waited = "process 0 on host-a: no choice of a checkpoint for 0.2 s; check its log"
    assert [str(one) for one in choice("best", Seen(()), Seen((2,)), Seen((2,)))] == ["no checkpoint", waited, waited]


@pytest.mark.parametrize("read_only", [True, False])
def test_looking_again_finds_new_checkpoints_and_no_old_ones(tmp_path, read_only):
    folder = save_run(tmp_path / "run", {2: 20, 4: 40}, {2: 0.5, 4: 0.4}) / "checkpoints"
    (folder / "4").rename(tmp_path / "hidden")
    with Checkpoints(folder, read_only=read_only) as checkpoints:
        assert checkpoints.latest() == 2 and not checkpoints.has(4)
        (tmp_path / "hidden").rename(folder / "4")
        shutil.rmtree(folder / "2")
        checkpoints.look_again()
        assert checkpoints.latest() == 4 and checkpoints.has(4) and not checkpoints.has(2)
        assert checkpoints.identity(4)
        assert checkpoints.facts(4)["step"] == 4


@pytest.fixture
def process_1():
    """Process 1 of a job whose process 0 has chosen step 2, and the store in which it finds that and answers."""
    store = FakeStore(1)
    store.set("0 choice of a checkpoint", json.dumps([2, "of process 0"]))
    return Peers(1, ("host-a", "host-b"), store), store


def answer(store: FakeStore) -> str:
    return store.get("1 answer whether it sees the checkpoint/1", 1)


def test_a_training_starts_from_the_step_of_process_0(tmp_path, monkeypatch, process_1):
    run = save_run(tmp_path / "run", {2: 20, 4: 40}, {2: 0.5, 4: 0.4})
    peers, store = process_1
    monkeypatch.setattr(weights, "current", lambda: peers)
    assert int(begin(CONFIG, run).state.step) == 2
    assert answer(store).startswith(f"{run / 'checkpoints'}: the latest checkpoint is that of step 4 there, ")


def test_weights_of_another_run_are_of_the_step_of_process_0(tmp_path, monkeypatch, process_1):
    other = save_run(tmp_path / "other", {2: 20, 4: 40}, {2: 0.5, 4: 0.4})
    peers, store = process_1
    monkeypatch.setattr(weights, "current", lambda: peers)
    monkeypatch.setattr(weights, "agreed_latest", lambda checkpoints, peers: None)
    config = CONFIG.model_copy(update={"training": CONFIG.training.model_copy(update={"init": init_of(other)})})
    assert begin(config, tmp_path / "run").origin == {"run": str(other), "step": 2}
    assert answer(store).startswith(
        f"{other / 'checkpoints' / '2'}: not the same files there as in process 0 on host-a"
    )


def init_of(other: Path):
    """Return the section of the config that takes the weights of another run."""
    return CONFIG.training.init.model_copy(update={"run": str(other), "checkpoint": "latest"})


def test_a_model_is_loaded_from_the_step_of_process_0(tmp_path, monkeypatch, process_1):
    run = save_run(tmp_path / "run", {2: 20, 4: 40}, {2: 0.5, 4: 0.4})
    peers, store = process_1
    monkeypatch.setattr(trained, "current", lambda: peers)
    asked = []

    def checked(checkpoints, step):
        asked.append(step)
        raise UserError("that is enough")

    monkeypatch.setattr(Checkpoints, "check", checked)
    monkeypatch.setattr(trained, "read_symbols", lambda config, run: None)
    with pytest.raises(UserError, match="that is enough"):
        trained.load_trained(run, "latest")
    assert asked == [2]
    assert answer(store).startswith(f"{run / 'checkpoints' / '2'}: not the same files there as in process 0 on host-a")

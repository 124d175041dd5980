"""Two processes of four devices each train as one process of eight does; a failure of one of them ends both."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from joint_st.config import load, override, save
from tests.tiny import environment, joint_st, saved_arrays, tiny_config

LOST_SECONDS = 60
"""What `joint-st train --help` promises."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Sharding info not provided")]


class Pair:
    """`joint-st ARGUMENTS`, of whichever module, as two processes."""

    def __init__(self, *arguments, module="joint_st", only_on_1=()):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        self.processes = []
        for index in range(2):
            command = [sys.executable, "-m", module, *map(str, arguments), *(only_on_1 if index else ())]
            place = ["--coordinator", address, "--processes", "2", "--process", str(index)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            self.processes.append(subprocess.Popen([*command, *place], env=environment(), **pipes))

    def when(self, event) -> Pair:
        """Wait for an event that comes while both run."""
        deadline = time.monotonic() + 1200
        while not event():
            ended = [process for process in self.processes if process.poll() is not None]
            assert not ended, ended[0].communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return self

    def end(self, **facts) -> SimpleNamespace:
        """Wait for both; return their `statuses`, `out` and `err`, and the given facts."""
        outputs = [process.communicate(timeout=1200) for process in self.processes]
        statuses = [process.returncode for process in self.processes]
        out, err = map(list, zip(*outputs))
        return SimpleNamespace(statuses=statuses, out=out, err=err, **facts)


def keep(folder: Path, *ended: SimpleNamespace) -> None:
    """Record how pairs have ended, for all workers."""
    (folder / "ended.json").write_text(json.dumps([vars(one) for one in ended]))


def kept(folder: Path) -> list[SimpleNamespace]:
    """Return what `keep` has written."""
    return [SimpleNamespace(**one) for one in json.loads((folder / "ended.json").read_text())]


def saved(run: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    return sorted(int(entry.name) for entry in (run / "checkpoints").glob("*") if entry.name.isdecimal())


def rows(run: Path) -> list[dict[str, float]]:
    """Return the rows of `metrics.csv`, empty fields and the speed left out."""
    with open(run / "metrics.csv", newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if v and k != "audio_seconds_per_second"} for row in found]


def assert_same(run: Path, other: Path, tolerance: float):
    """Check that metrics and final weights are the same, up to the order of float32 sums."""
    assert [row.keys() for row in rows(run)] == [row.keys() for row in rows(other)]
    for one, two in zip(rows(run), rows(other)):
        for name in one:
            assert one[name] == pytest.approx(two[name], rel=tolerance), (name, one["step"])
    one, two = (saved_arrays(run, saved(other)[-1]) for run in (run, other))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.fixture(scope="session")
def config(once, corpora) -> Path:
    """6 steps, of a model without text, on four devices in each process."""
    changes = {
        "data.batch_size": 8,
        "data.text": (),
        "parallel.cpu_devices": 4,
        "model.audio_layers": 0,
        "training.evaluate_every": 6,
        "training.keep_latest": 3,
    }

    def make(folder):
        folder.mkdir()
        save(tiny_config(corpora, changes), folder / "config.json")

    return once("several_config", make) / "config.json"


# The step of a model


@pytest.fixture(scope="session")
def together(config, once) -> tuple[Path, SimpleNamespace]:
    """A run on two processes, and how they ended."""

    def make(folder):
        ended = Pair("train", config, "--workdir", folder / "run", "--profile", "1:3").end()
        keep(folder, ended)

    folder = once("together", make)
    return folder / "run", *kept(folder)


@pytest.fixture(scope="session")
def alone(config, once) -> Path:
    """The same run on one process of eight devices."""

    def make(folder):
        done = joint_st("train", config, "--workdir", folder, "--parallel.cpu_devices", "8")
        assert done.returncode == 0, done.stderr

    return once("alone", make)


def test_process_0_prints_and_the_other_is_silent(together):
    run, pair = together
    assert pair.statuses == [0, 0], pair.err
    assert "devices  8 × cpu" in pair.err[0] and "step 6: dev streaming_wer" in pair.err[0]
    assert re.search("full_context .* 8 *\n", pair.out[0])
    assert not pair.out[1] and not pair.err[1]
    assert saved(run) == [2, 4, 6] and not (run / ".preflight").exists()
    traces = sorted((run / "profile/plugins/profile/steps_2_to_3").glob("*.xplane.pb"))
    assert [path.name.rpartition("_")[2] for path in traces] == ["0.xplane.pb", "1.xplane.pb"]
    assert "steps 2 to 3: trace in" in pair.err[0] and "ms a step; a device computes" in pair.err[0]


def untimed(text: str) -> str:
    """Return the text of a file of an evaluation, without how long decoding took."""
    return re.sub(r'"real_time_factor": [0-9.e-]+', "", text)


def test_it_is_the_run_of_one_process(together, alone):
    run, _ = together
    assert_same(run, alone, 1e-5)
    for name in ("vocabulary.json", "tokenizer/tokenizer.json"):
        assert (run / name).read_bytes() == (alone / name).read_bytes()
    tables = [
        {path.name: untimed(path.read_text()) for path in (one / "evaluations").iterdir()} for one in (run, alone)
    ]
    # What a table was made from names the files of the checkpoint, which two processes have written.
    assert all(table.pop("step_6_test.origin.json") for table in tables)
    assert set(tables[0]) == {"step_6_test.json", "step_6_test.jsonl", "step_6_test.errors.json"}
    assert tables[0] == tables[1]


def test_its_checkpoint_goes_on_on_one_process_and_another_mesh(together, alone, tmp_path):
    """It continues with the batches that would have come."""
    run = shutil.copytree(together[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "6")
    done = joint_st("train", run, "--data.test", "{}")
    assert done.returncode == 0, done.stderr
    assert "goes on from step 4 of 6 steps" in done.stderr and "devices  4 × cpu" in done.stderr
    assert_same(run, alone, 1e-5)


def test_evaluate_on_two_processes(together, tmp_path):
    run, _ = together
    files = [tmp_path / name for name in ("table.json", "utterances.jsonl")]
    found = Pair("evaluate", run, "--json", files[0], "--jsonl", files[1]).end()
    assert found.statuses == [0, 0], found.err
    assert "full_context" in found.out[0] and not found.out[1]
    assert {row["utterances"] for row in json.loads(files[0].read_text()) if row["subset"] == "all"} == {8}
    for file, own in zip(files, ("step_6_test.json", "step_6_test.jsonl")):
        (there,) = (run / "evaluations").glob(own)
        assert file.read_text() == there.read_text()


def test_long_recordings_are_heard_by_both(together, tmp_path):
    """They are decoded in windows of two seconds, and most recordings need several."""
    run, _ = together
    files = [tmp_path / name for name in ("pair.jsonl", "one.jsonl")]
    windows = "--window-seconds", "2", "--jsonl"
    found = Pair("evaluate", run, *windows, files[0]).end()
    assert found.statuses == [0, 0], found.err
    assert not found.out[1] and not found.err[1]
    done = joint_st("evaluate", run, *windows, files[1])
    assert done.returncode == 0, done.stderr
    assert files[0].read_text() == files[1].read_text()
    heard = [json.loads(line) for line in files[0].read_text().splitlines()]
    long = [one for one in heard if one["seconds"] > 2]
    assert len(long) > len(heard) / 2 and any(one["hypothesis"] for one in long)


# A step that compiles at once (`small_step`): what befalls a run, whatever its model is


@pytest.fixture(scope="session")
def small(config, once) -> Path:
    """80 steps without evaluations."""
    changes = {"training.steps": 80, "training.checkpoint_every": 4, "training.log_every": 8, "data.dev": ()}

    def make(folder):
        folder.mkdir()
        save(override(load(config), changes | {"data.test": {}}), folder / "config.json")

    return once("small_config", make) / "config.json"


@pytest.fixture(scope="session")
def story(small, once) -> tuple[Path, SimpleNamespace, SimpleNamespace, SimpleNamespace]:
    """A run that is interrupted twice: process 1 is killed, then gets SIGTERM."""

    def make(folder):
        run = folder / "run"

        def start():
            return Pair("train", small, "--workdir", run, module="tests.distributed.small_step")

        pair = start().when(lambda: saved(run))
        pair.processes[1].kill()
        began = time.monotonic()
        pair.processes[0].wait()
        killed = pair.end(seconds=time.monotonic() - began, saved=saved(run)[-1])
        pair = start().when(lambda: saved(run)[-1] > killed.saved)
        pair.processes[1].send_signal(signal.SIGTERM)
        asked = pair.end()
        asked.saved = saved(run)[-1]
        keep(folder, killed, asked, start().end())

    folder = once("story", make)
    return folder / "run", *kept(folder)


def test_a_killed_process_ends_the_other(story):
    _, killed, _, _ = story
    assert killed.statuses == [75, -signal.SIGKILL], killed.err
    assert killed.seconds < LOST_SECONDS
    me = socket.gethostname()
    again = "the same command, started on all again, goes on from the last checkpoint"
    lines = [line for line in killed.err[0].splitlines() if "error" in line]
    assert lines == [f"joint-st: error: process 1 on {me} is gone: killed, or its host died; {again}"]
    assert "Traceback" not in killed.err[0]


def test_sigterm_on_one_process_stops_both_after_the_same_step(story):
    _, killed, asked, _ = story
    assert f"goes on from step {killed.saved} of 80 steps" in asked.err[0]
    assert asked.statuses == [143, 143], asked.err
    assert killed.saved < asked.saved < 80
    assert f"SIGTERM: saved step {asked.saved} in " in asked.err[0].splitlines()[-1]
    assert not asked.err[1]


def test_what_was_broken_off_ends_as_one_process_does_in_one_go(story, small, tmp_path):
    run, _, asked, finished = story
    assert finished.statuses == [0, 0], finished.err
    assert f"goes on from step {asked.saved} of 80 steps" in finished.err[0]
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed.small_step", "train", str(small), "--workdir", str(tmp_path / "run")]
        + ["--parallel.cpu_devices", "8"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_same(run, tmp_path / "run", 1e-6)


def test_process_0_that_is_killed_ends_the_other(small, tmp_path):
    run = tmp_path / "run"
    pair = Pair("train", small, "--workdir", run, module="tests.distributed.small_step").when(lambda: saved(run))
    pair.processes[0].kill()
    began = time.monotonic()
    pair.processes[1].wait()
    assert time.monotonic() - began < LOST_SECONDS
    ended = pair.end()
    assert ended.statuses == [-signal.SIGKILL, 75], ended.err
    # JAX may have said so before.
    (line,) = re.findall("joint-st: error: .*", ended.err[1])
    assert line.startswith(f"joint-st: error: process 0 on {socket.gethostname()} is gone: killed, or its host died; ")


def test_another_config_on_one_host_is_told_in_one_line(small, tmp_path):
    found = Pair("train", small, "--workdir", tmp_path / "run", only_on_1=["--seed", "1"]).end()
    assert found.statuses == [2, 2]
    host = socket.gethostname()
    assert found.err == [
        f"joint-st: error: process 1 on {host}: seed: 1 there, 0 in process 0 on {host}; start all with the same "
        "config\n",
        "",
    ]
    assert not (tmp_path / "run").exists()

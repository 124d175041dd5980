"""Trains the arms of recorded_sweep.py side by side on one GPU, as long as there is time, and compares them.

    python recorded_run.py SECONDS        in a checkout of joint_st, JOINT_ST_DATA set

The first steps measure the pace of all arms at once. If the number of steps they began with (GUESS) does not fit the
time, they are stopped and saved, and go on with a number that does. That happens at about the end of the learning
rate's warm-up, so that the schedule is hardly another than that of the new number from the beginning. An arm that is
not ready in time is stopped, and evaluated as it is.

ARMS        names in recorded_sweep.py (default: audio_only reconstruction reconstruction_consistency_skip)
GUESS       steps to begin with (1200)
MOST        steps at most (12000)
RESERVE     seconds for evaluation, comparison and analysis behind the training (75)
OVERRIDES   JSON of further fields for all arms
WARM=0      compile nothing for the evaluation while the arms train
Everything is in OUT/recorded.json and OUT/recorded.tar.gz, more of it after each part.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from common import HERE, OUT, TINY, Clock, Report

CLOCK = Clock(float(sys.argv[1]))
REPORT = Report("recorded")
ARMS = (os.environ.get("ARMS") or "audio_only reconstruction reconstruction_consistency_skip").split()
WORK = Path(os.environ.get("WORK") or "/tmp/one_gpu") / "recorded"
GUESS = int(os.environ.get("GUESS") or (8 if TINY else 1200))
RESERVE = float(os.environ.get("RESERVE") or 75)
MOST = int(os.environ.get("MOST") or (40 if TINY else 12_000))
PILOT = 4 if TINY else 60
"""Steps of every arm before the pace is judged; the learning rate rises for 100."""
LINE = re.compile(r"step (\d+)/(\d+): loss ([\d.naif+-]+)")


def main() -> None:
    # The sweep has a session of its own: it is ended here, also when this process is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    REPORT("arms", ARMS)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    environment = dict(os.environ)
    if not TINY:
        environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.76 / len(ARMS):.3f}"
    sweep = Sweep(environment)
    steps = GUESS
    try:
        sweep.start(steps)
        steps = train(sweep, steps)
    finally:
        sweep.stop(hard=True)
        pack()
    after(sweep, environment, steps)
    pack()


class Sweep:
    """`joint-st sweep` in a process of its own, and what its runs print."""

    def __init__(self, environment):
        self._environment = environment
        self._process = None
        self._file = HERE / "recorded_sweep.py"
        self.seen: dict[str, list[tuple[float, int]]] = {}
        """For each arm, pairs of a time and the steps it had made by then, since the latest start."""
        self._read: dict[str, int] = {}
        """Bytes of each log that were read already."""

    def command(self, *more):
        return [sys.executable, "-m", "joint_st", "sweep", str(self._file), "--workdir", str(WORK), *more]

    def start(self, steps):
        self.seen = {arm: [] for arm in ARMS}
        self._read = {arm: self.log(arm).stat().st_size if self.log(arm).exists() else 0 for arm in ARMS}
        self.began = time.perf_counter()
        self._environment["STEPS"] = str(steps)
        words = self.command("--workers", str(len(ARMS)), "--only", *ARMS)
        with open(WORK / "sweep.log", "ab") as log:
            self._process = subprocess.Popen(
                words, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def runs(self):
        return self._process is not None and self._process.poll() is None

    def stop(self, hard=False):
        """Ask all arms to save and end, and kill those that do not; `hard` gives them less time."""
        if not self.runs:
            return
        self._process.send_signal(signal.SIGTERM)
        until = time.perf_counter() + (5 if hard else 25)
        while self.runs and time.perf_counter() < until:
            time.sleep(0.1)
        if self.runs:
            self._process.send_signal(signal.SIGTERM)  # the second one kills
            time.sleep(1)
            if self.runs:
                self._process.kill()

    def log(self, arm):
        return WORK / arm / "seed_0.log"

    def directory(self, arm):
        return WORK / arm / "seed_0"

    def look(self):
        """Read what the arms have printed since the last look."""
        now = time.perf_counter()
        for arm in ARMS:
            if not self.log(arm).exists():
                continue
            with open(self.log(arm), "rb") as file:
                file.seek(self._read[arm])
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[arm] += len(whole)
            for match in LINE.finditer(whole.decode(errors="replace")):
                self.seen[arm].append((now, int(match[1])))

    def saved(self, arm):
        """Steps of an arm's complete checkpoints."""
        return [
            int(folder.name) for folder in (self.directory(arm) / "checkpoints").glob("*") if folder.name.isdecimal()
        ]

    def failed(self):
        return [arm for arm in ARMS if (WORK / arm / "seed_0.failed").exists()]


def train(sweep, steps) -> int:
    """Wait until all arms have ended or the time is over; return the steps that they were to make."""
    judged, smaller, warming = False, False, []
    last_said = time.perf_counter()
    try:
        while sweep.runs:
            time.sleep(0.25)
            sweep.look()
            training = [arm for arm, found in sweep.seen.items() if not found or found[-1][1] < steps]
            if CLOCK.left < (RESERVE * 0.6 if training else 10):
                REPORT("stopped", {"training": training, "seconds_left": CLOCK.left})
                sweep.stop(hard=not training)
                break
            if sweep.failed() and not smaller and CLOCK.left > 100 and out_of_memory(sweep):
                smaller = True
                REPORT("memory", "too small: half as many utterances and sentences in a batch")
                sweep.stop(hard=True)
                shutil.rmtree(WORK)
                WORK.mkdir()
                os.environ["OVERRIDES"] = sweep._environment["OVERRIDES"] = json.dumps(
                    json.loads(os.environ.get("OVERRIDES") or "{}")
                    | {"data.batch_size": 12, "data.text_batch_size": 32}
                )
                sweep.start(steps)
                continue
            if not judged and (paces := pace(sweep)):
                judged = True
                began = sweep.began
                first = min(found[0][0] for found in sweep.seen.values()) - began
                REPORT("seconds_to_first_steps", first)
                REPORT("pilot_steps_per_second", paces)
                steps = judge(sweep, steps, paces, first)
            ready = all(sweep.saved(arm) for arm in ARMS)
            if judged and not warming and ready and os.environ.get("WARM") != "0" and CLOCK.left > RESERVE + 60:
                warming = warm(sweep)
            if time.perf_counter() - last_said > 20:
                last_said = time.perf_counter()
                print(
                    f"{CLOCK.left:.0f} s left:",
                    {arm: found[-1][1] for arm, found in sweep.seen.items() if found},
                    flush=True,
                )
        REPORT("steps", steps)
        REPORT("failed", {arm: (WORK / arm / "seed_0.failed").read_text() for arm in sweep.failed()})
    finally:
        for process in warming:
            process.kill()
    return steps


def pace(sweep) -> dict[str, float] | None:
    """Steps a second of each arm while all were running, or None if that cannot be told yet."""
    if not all(sweep.seen.values()):
        return None
    common = max(found[0][0] for found in sweep.seen.values())
    found = {}
    for arm, seen in sweep.seen.items():
        since = [one for one in seen if one[0] >= common]
        if len(since) < 2 or seen[-1][1] < PILOT or since[-1][0] - since[0][0] < (0.1 if TINY else 3):
            return None
        found[arm] = (since[-1][1] - since[0][1]) / (since[-1][0] - since[0][0])
    return found


def seconds_for(steps: int, paces: dict[str, float], done: dict[str, int]) -> float:
    """Seconds until all arms have made so many steps; when one has ended, the others become faster."""
    left = {arm: max(steps - done.get(arm, 0), 0) for arm in paces}
    total = 0.0
    while any(left.values()):
        running = [arm for arm in left if left[arm]]
        faster = (len(paces) / len(running)) ** 0.6
        soonest = min(left[arm] / (paces[arm] * faster) for arm in running)
        total += soonest
        for arm in running:
            left[arm] = left[arm] - paces[arm] * faster * soonest
            if left[arm] < 1e-6:
                left[arm] = 0
    return total


def steps_in(seconds: float, paces, done) -> int:
    """Return the largest number of steps that fits, a multiple of ten."""
    low, high = 0, 200_000
    while high - low > 5:
        middle = (low + high) // 2
        low, high = (middle, high) if seconds_for(middle, paces, done) <= seconds else (low, middle)
    return min(max(low // 10 * 10, 2 * PILOT), MOST)


def judge(sweep, steps, paces, first) -> int:
    """Leave the number of steps as it is, or stop all arms and go on with as many as fit the time; return the
    number."""
    done = {arm: found[-1][1] for arm, found in sweep.seen.items()}
    left = CLOCK.left - RESERVE
    needed = seconds_for(steps, paces, done)
    # The second start is faster, since compiled programs are kept.
    again = 10 + 0.7 * first
    fitting = steps_in(left - again, paces, done)
    REPORT("judged", {"seconds_left": left, "seconds_needed": needed, "steps": steps, "steps_if_begun_again": fitting})
    enough = needed <= 1.04 * left and fitting < 1.2 * steps
    # A little later the schedules of both numbers of steps would have parted.
    if enough or fitting == steps or max(done.values()) > steps // 4 and not TINY or left - again < 20:
        return steps
    sweep.stop()
    if sweep.runs:
        return steps
    sweep.start(fitting)
    return fitting


def out_of_memory(sweep) -> bool:
    return any(b"RESOURCE_EXHAUSTED" in sweep.log(arm).read_bytes()[-200_000:] for arm in sweep.failed())


def warm(sweep):
    """Start processes that evaluate checkpoints just as the arms will be evaluated at their end."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.07"}
    processes = []
    with_text = [arm for arm in ARMS if arm != "audio_only"]
    for arm, more in [(arm, []) for arm in ARMS if arm == "audio_only"] + [
        (arm, ["analyze"]) for arm in with_text[-1:]
    ]:
        copy = WORK / "warm" / arm
        try:
            shutil.copytree(sweep.directory(arm), copy, ignore=shutil.ignore_patterns("*.orbax-checkpoint-tmp*"))
        except (OSError, shutil.Error) as error:  # a checkpoint was just removed
            print(f"{arm}: {error}", flush=True)
        words = ["nice", "-n", "5", sys.executable, str(HERE / "warm.py"), str(copy), *more]
        with open(WORK / f"warm_{arm}.log", "wb") as log:
            processes.append(subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT))
    return processes


def after(sweep, environment, steps) -> None:
    """Evaluate arms that were stopped, collect the tables, compare the arms, and analyze the last one."""
    on_gpu = {**environment, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    on_cpu = {**environment, "JAX_PLATFORMS": "cpu"}
    base = [sys.executable, "-m", "joint_st"]
    there = [arm for arm in ARMS if sweep.saved(arm)]
    tables = {arm: [*(sweep.directory(arm) / "evaluations").glob("step_*.json")] for arm in there}
    stopped = [arm for arm in there if not [file for file in tables[arm] if "." not in file.stem]]
    REPORT("evaluated_as_stopped", stopped)
    jobs = {
        f"evaluate {arm}": ([*base, "evaluate", str(sweep.directory(arm)), "--checkpoint", "latest"], on_gpu)
        for arm in stopped
    }
    run_all(jobs, CLOCK.left - 5)
    jobs = {}
    collected = WORK / "table.json"
    if not stopped:
        more = ["--collect", "--json", str(collected), "--markdown", str(WORK / "table.md"), "--only", *there]
        jobs["collect"] = sweep.command(*more), {**on_cpu, "STEPS": str(steps)}
    pairs = [(b, a) for a, b in zip(ARMS, ARMS[1:])] + ([(ARMS[-1], ARMS[0])] if len(ARMS) > 2 else [])
    for ours, reference in pairs:
        if {ours, reference} <= {*there}:
            words = [*base, "compare", str(sweep.directory(ours)), str(sweep.directory(reference))]
            words += ["--checkpoint", "latest", "--json", str(WORK / f"compare_{ours}_{reference}.json")]
            jobs[f"compare {ours} {reference}"] = words, on_cpu
    analysed = [arm for arm in there if arm != "audio_only"][-1:]
    for arm in analysed:
        words = [
            *base,
            "analyze",
            str(sweep.directory(arm)),
            "--checkpoint",
            "latest",
            "--json",
            str(WORK / f"analyze_{arm}.json"),
        ]
        jobs[f"analyze {arm}"] = words, on_gpu
    # The tables are on disk before anything else is begun.
    summarise(sweep, there, pairs, collected)
    pack()
    run_all(jobs, CLOCK.left - 4)
    summarise(sweep, there, pairs, collected)


def run_all(jobs, seconds) -> None:
    """Run commands side by side, and kill those that are not ready in time."""
    until = time.perf_counter() + max(seconds, 1)
    running = {}
    for name, (words, environment) in jobs.items():
        with open(WORK / f"{name.replace(' ', '_')}.log", "wb") as log:
            running[name] = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
    began = time.perf_counter()
    while running and time.perf_counter() < until:
        time.sleep(0.1)
        for name, process in [*running.items()]:
            if process.poll() is not None:
                REPORT(f"commands/{name}", {"status": process.returncode, "seconds": time.perf_counter() - began})
                running.pop(name)
    for name, process in running.items():
        process.kill()
        REPORT(f"commands/{name}", {"status": "not ready in time"})


def summarise(sweep, there, pairs, collected) -> None:
    for arm in there:
        files = [file for file in (sweep.directory(arm) / "evaluations").glob("step_*.json") if "." not in file.stem]
        for file in files:
            REPORT(f"tables/{arm}", json.loads(file.read_text()))
        with open(sweep.directory(arm) / "metrics.csv", newline="") as metrics:
            rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(metrics)]
        every = max(len(rows) // 25, 1)
        REPORT(f"curves/{arm}", rows[::every] + rows[-1:])
    for arm in ARMS:
        for file in (WORK / "warm" / arm / "evaluations").glob("step_*.json"):
            if "." not in file.stem:
                REPORT(f"tables_early/{arm}", json.loads(file.read_text()))
    if collected.exists():
        REPORT("collected", json.loads(collected.read_text()))
    for ours, reference in pairs:
        file = WORK / f"compare_{ours}_{reference}.json"
        if file.exists():
            REPORT(f"comparisons/{ours} against {reference}", json.loads(file.read_text()))
    for file in WORK.glob("analyze_*.json"):
        REPORT(f"analysis/{file.stem.removeprefix('analyze_')}", json.loads(file.read_text()))


def pack() -> None:
    """Put everything but weights into OUT/recorded.tar.gz."""

    def wanted(entry):
        return None if re.search(r"/checkpoints/|\.lock$|/audio/", entry.name) else entry

    draft = OUT / "recorded.tar.gz.part"
    with tarfile.open(draft, "w:gz") as archive:
        archive.add(WORK, "recorded", filter=wanted)
    draft.rename(OUT / "recorded.tar.gz")


if __name__ == "__main__":
    main()

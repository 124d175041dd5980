"""Checks of this machine: versions, devices, processes, clock."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import joint_st
from joint_st.distributed.host_memory import ACCELERATORS
from joint_st.distributed.links import Link, rendezvous
from joint_st.distributed.preflight import PACKAGES, sources
from joint_st.distributed.process_spec import ProcessSpec, detected_process, stated_process
from joint_st.doctor.check import Check

DEVICE_SECONDS = 60
"""Time limit for a process of its own to open the devices of this machine."""
SKEW_SECONDS = 30
"""Seconds by which clocks may differ, since leases and the age of files depend on them."""


class Devices(NamedTuple):
    """The devices of this machine."""

    count: int
    kind: str
    platform: str
    """`cpu`, `gpu` or `tpu`."""
    bytes: int | None
    """Memory of each, as far as JAX may use it; None where it does not say."""


def versions() -> Iterator[Check]:
    """Check that the installed packages are those for which this package was made."""
    own = importlib.metadata.version("joint_st")
    yield Check("ok", "joint_st", f"{joint_st.__version__}, sources {sources()}, in {Path(joint_st.__file__).parent}")
    if own != joint_st.__version__:
        yield Check("warning", "joint_st", f"pip knows it as {own}", "pip install -e . once more")
    there = {name: importlib.metadata.version(name) for name in PACKAGES}
    named = ", ".join(f"{name} {version}" for name, version in there.items())
    yield Check("ok", "versions", f"Python {platform.python_version()}, {named}")
    yield from _requirements(there)


def _requirements(there: dict[str, str]) -> Iterator[Check]:
    """Yield packages whose versions do not satisfy the requirements."""
    for requirement in importlib.metadata.requires("joint_st") or []:
        match = re.fullmatch(r"([\w.-]+)((?:[<>=!~]=?[\d.]+,?)*)", requirement.partition(";")[0].strip())
        if not match or "extra" in requirement:
            continue
        try:
            version = there.get(match[1]) or importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            yield Check("problem", "versions", f"{match[1]} is not installed", f"pip install '{match[1]}{match[2]}'")
            continue
        if unmet := [bound for bound in match[2].split(",") if bound and not _meets(version, bound)]:
            yield Check(
                "problem",
                "versions",
                f"{match[1]} {version}, which is not {unmet[0]}",
                f"pip install '{match[1]}{match[2]}'",
            )


def _meets(version: str, bound: str) -> bool:
    operator, number = re.fullmatch(r"(\D+)(.+)", bound).groups()
    have, want = ([int(part) for part in re.findall(r"\d+", text)][:3] for text in (version, number))
    have, want = ([*numbers, 0, 0, 0][:3] for numbers in (have, want))
    return {"<": have < want, ">=": have >= want, "==": have == want}.get(operator, True)


def accelerators(folder: Path = Path("/dev")) -> list[str]:
    """Return files below /dev that show accelerators; none is opened."""
    return sorted(str(path) for pattern in ACCELERATORS for path in folder.glob(pattern))


LOOK = """
import json, jax
devices = jax.local_devices()
stats = devices[0].memory_stats() or {}
print(json.dumps([len(devices), devices[0].device_kind, devices[0].platform, stats.get("bytes_limit")]))
"""


def devices(spec: ProcessSpec | None) -> tuple[list[Check], Devices | None]:
    """Return the devices on which JAX would compute. A separate process opens them, and releases them when it ends.

    On one of several hosts (`spec`) with TPUs none is opened, because JAX would wait for the other hosts, and a running
    job uses its chips exclusively.
    """
    found = accelerators()
    if spec and spec.count > 1 and any("nvidia" not in name for name in found) and _platforms() != "cpu":
        told = f"{len(found)} chips here ({found[0]} ...), not opened: this is process {spec.index} of {spec.count}"
        return [Check("ok", "devices", f"{told}, and JAX would wait for the others")], None
    # Do not preallocate a GPU's memory, which another process may be using.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOOK],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=DEVICE_SECONDS,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        why = f"JAX did not open the devices in {DEVICE_SECONDS} s"
        return [
            Check("problem", "devices", why, "see whether another process holds them, or restart the machine")
        ], None
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"JAX ended with status {done.returncode}"])[-1]
        return [
            Check("problem", "devices", why[:300], "see whether another process holds them; unset JAX_PLATFORMS")
        ], None
    own = Devices(*json.loads(done.stdout.splitlines()[-1]))
    memory = f", {own.bytes / 2**30:.1f} GiB each" if own.bytes else ""
    checks = [Check("ok", "devices", f"{own.count} × {own.kind}{memory}")]
    if own.platform == "cpu" and found and _platforms() != "cpu":
        what = f"JAX computes on the CPU, and there is {found[0]}"
        checks = [Check("problem", "devices", what, "pip install 'joint_st[tpu]', or 'joint_st[gpu]' on NVIDIA's")]
    return checks, own


def _platforms() -> str:
    return os.environ.get("JAX_PLATFORMS", "")


def clocks(spec: ProcessSpec, seconds: float) -> Iterator[Check]:
    """Check how much the clocks of a job's hosts differ, over separate connections; JAX is not started.

    The error is at most half of the time that a message takes, since a clock is read between two readings of process
    0's. Raises `UserError` where some processes do not come.
    """
    hosts, links = rendezvous(spec, seconds)
    until = time.monotonic() + 30
    try:
        if spec.index:
            _answer(links[0], until)
            yield Check("ok", "clocks", f"told to process 0 on {hosts[0]}")
            return
        skews = {index: _skew(link, until) for index, link in links.items()}
    finally:
        for link in links.values():
            link.close()
    silent = [index for index, skew in skews.items() if skew is None]
    if silent:
        yield Check("problem", "clocks", f"process {silent[0]} on {hosts[silent[0]]} does not answer", "see its log")
        return
    worst = max(skews, key=lambda index: abs(skews[index]), default=None)
    found = "this host alone" if worst is None else f"{spec.count} hosts, at most {abs(skews[worst]):.2f} s apart"
    if worst is not None and abs(skews[worst]) > SKEW_SECONDS:
        found = (
            f"process {worst} on {hosts[worst]} has a clock {skews[worst]:+.1f} s off that of process 0 on {hosts[0]}"
        )
        yield Check("problem", "clocks", found, "start chrony or ntpd there")
        return
    yield Check("ok", "clocks", found)


def _answer(link: Link, until: float) -> None:
    while True:
        try:
            asked = link.receive(until)
        except TimeoutError:
            return
        if asked is None or "clock" not in asked:
            return
        link.send({"clock": time.time()})


def _skew(link: Link, until: float) -> float | None:
    """Return the seconds by which the clock at the other end is ahead, from the quickest of a few answers; None without
    an answer."""
    measured = []
    for _ in range(5):
        began = time.time()
        link.send({"clock": began})
        try:
            told = link.receive(until)
        except TimeoutError:
            return None
        if told is None:
            return None
        ended = time.time()
        measured.append((ended - began, told["clock"] - (began + ended) / 2))
    return min(measured)[1]


def memory() -> Check:
    """Check how much memory this host has free."""
    facts = {}
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        name, _, rest = line.partition(":")
        facts[name] = int(rest.split()[0]) * 1024
    if "MemAvailable" not in facts:
        return Check("ok", "memory of the host", "this system does not say")
    total, free = facts["MemTotal"] / 2**30, facts["MemAvailable"] / 2**30
    found = f"{free:.1f} of {total:.1f} GiB free, {len(os.sched_getaffinity(0))} CPU cores for this process"
    if free < 2:
        return Check(
            "warning", "memory of the host", found, "end what else runs here; readers of audio need about 2 GiB"
        )
    return Check("ok", "memory of the host", found)


def environment() -> Iterator[Check]:
    """Check environment variables that change what a run does."""
    for name in ("HOME", "TMPDIR"):
        folder = os.environ.get(name)
        if folder and not os.access(folder, os.W_OK | os.X_OK):
            yield Check("warning", name, f"{folder} cannot be written", f"set {name} to a folder of your own")
    if os.environ.get("JAX_PLATFORMS"):
        yield Check("ok", "JAX_PLATFORMS", f"{os.environ['JAX_PLATFORMS']}: JAX looks at no other devices")


def stated(options: tuple[str | None, int | None, int | None], seconds: int) -> ProcessSpec | None:
    """Return which process of several this is, as `joint_st.distributed.process_spec` finds it."""
    return stated_process(*options) or detected_process(seconds)

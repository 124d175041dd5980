"""`joint-st doctor`: looks at everything that a run needs, prints it as one table, and says whether there is a problem.

It reads a few utterances, and all files of a run once for their checksums. It writes small files, which it removes, and
computes nothing. A separate process with a time limit of a minute opens the accelerators of this machine; if the
machine is one of several with TPUs, none is opened, since JAX would wait there for the others. Each look has a time
limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from joint_st import storage
from joint_st.config import Config
from joint_st.distributed.process_spec import ProcessSpec
from joint_st.doctor import corpora, machine, model, places, run
from joint_st.doctor.check import Check, from_error, looked
from joint_st.errors import UserError
from joint_st.runs.directory import RunDirectory

QUICK, LONG = 20.0, 90.0
"""Time limits in seconds of a look at this machine or a folder, and of one at a corpus or a whole run."""
READ = 900.0
"""Time limit in seconds for reading one checkpoint completely, for its checksums."""
META_SECONDS = 5
"""Time limit for the cluster to say which of its processes this is."""

Found = TypeVar("Found")


def doctor(
    make_config: Callable[[], Config] | None,
    *,
    is_run: bool = False,
    workdir: Path | None = None,
    topology: str | None = None,
    process: tuple[str | None, int | None, int | None] = (None, None, None),
    start_seconds: float = 60,
    json_file: Path | None = None,
) -> bool:
    """Print every check as it is made, and return whether there is no problem.

    make_config: loads the config, and may raise `UserError`; None where only the machine is looked at. is_run: whether
    it is the config of the run in `workdir`. topology: the slice to train on, if that is not this machine. process: as
    the options of the command say. start_seconds: time limit for the other hosts to connect, so that clocks can be
    compared.
    """
    checks = []
    for check in _checks(make_config, is_run, workdir, topology, process, start_seconds):
        checks.append(check)
        print(*check.lines(), sep="\n", flush=True)
    counts = {state: sum(check.state == state for check in checks) for state in ("ok", "warning", "problem")}
    print(f"{len(checks)} checks: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if json_file:
        storage.write_output(json_file, json.dumps([check.record() for check in checks], indent=1) + "\n")
    return not counts["problem"]


def _checks(
    make_config: Callable[[], Config] | None,
    is_run: bool,
    workdir: Path | None,
    topology: str | None,
    process: tuple[str | None, int | None, int | None],
    start_seconds: float,
) -> Iterator[Check]:
    yield from looked("versions", machine.versions, QUICK)
    yield from looked("environment", machine.environment, QUICK)
    yield from looked("memory of the host", lambda: [machine.memory()], QUICK)
    spec, told = _kept("processes", lambda: machine.stated(process, META_SECONDS))
    yield from told
    if spec and spec.count > 1:
        yield Check("ok", "processes", f"{spec.index} of {spec.count}, process 0 at {spec.coordinator}")
        yield from looked("clocks", lambda: machine.clocks(spec, start_seconds), start_seconds + 60)
    opened, devices = machine.devices(spec)
    yield from opened
    if make_config is None:
        return
    # From here on this process asks JAX for shapes only, which touches no accelerator.
    os.environ["JAX_PLATFORMS"] = "cpu"
    config, told = _kept("config", make_config)
    yield from told
    if config is None:
        return
    here = RunDirectory(workdir or Path("runs") / config.name)
    yield from _of_config(config, here, is_run)
    yield from looked("parallel", lambda: _devices(config, here, spec, devices, topology), LONG)


def _of_config(config: Config, here: RunDirectory, is_run: bool) -> Iterator[Check]:
    yield Check("ok", "config", f"{config.name}: {config.training.steps} steps, seed {config.seed}")
    for unused in config.unused:
        yield Check("warning", *unused)
    yield from looked("config", lambda: corpora.variables(config), QUICK)
    for name, source in corpora.sources(config):
        yield from looked(name, lambda name=name, source=source: corpora.look(name, source, config), LONG)
    yield from looked("config", lambda: corpora.other_paths(config, run.existing(here.root)), LONG)
    yield from looked("--workdir", lambda: places.access("--workdir", here.root), QUICK)
    named, told = _kept(
        "caches", lambda: dict(places.caches(config.data.index_cache, config.training.compilation_cache))
    )
    yield from told
    for name, folder in (named or {}).items():
        yield from looked(name, lambda name=name, folder=folder: places.access(name, folder), QUICK)
    yield from looked("room", lambda: [_room(config, here)], LONG)
    if is_run or here.config.exists():
        yield from _of_run(config, here, is_run)


def _of_run(config: Config, here: RunDirectory, is_run: bool) -> Iterator[Check]:
    if not is_run and here.has_checkpoint:
        yield from looked("--workdir", lambda: run.may_go_on(here, config), QUICK)
    if is_run or here.has_checkpoint:
        yield from looked("inventories", lambda: run.inventories(here, config), QUICK)
        yield from looked("checkpoints", lambda: run.checkpoints(here, config), READ)


def _room(config: Config, here: RunDirectory) -> Check:
    # However many devices there will be, a checkpoint holds all of the state once.
    alone = config.model_copy(
        update={"parallel": config.parallel.model_copy(update={"slices": 1, "data": 1, "fsdp": 1, "tensor": 1})}
    )
    one = model.size(alone, 1, run.labels(here.root)).checkpoint
    kept = config.training.keep_latest + config.training.keep_best + 1
    there = len(here.checkpoint_steps)
    what = f"{kept} checkpoints, the one being written included" + (f", of which {there} are there" if there else "")
    return places.room("room", here.root, one * max(kept - there, 1), what)


def _devices(
    config: Config,
    here: RunDirectory,
    spec: ProcessSpec | None,
    devices: machine.Devices | None,
    topology: str | None,
) -> Iterator[Check]:
    if topology:
        from joint_st.distributed.topology import parse_topology

        found = parse_topology(topology)
        yield from model.fits(
            config, found.chips * config.parallel.slices, found.chip.usable, topology, run.labels(here.root)
        )
    elif devices is None:
        yield Check("ok", "parallel", "not compared with the devices here; --topology NAME compares it with a slice's")
    else:
        count = max(devices.count, config.parallel.cpu_devices if devices.platform == "cpu" else 1)
        count *= spec.count if spec else 1
        yield from model.fits(config, count, devices.bytes, f"{devices.kind} here", run.labels(here.root))


def _kept(name: str, make: Callable[[], Found]) -> tuple[Found | None, Sequence[Check]]:
    """Return what `make` returns, or the problem that it raised."""
    try:
        return make(), ()
    except (UserError, OSError) as error:
        return None, [from_error(name, error)]

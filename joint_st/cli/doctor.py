"""`joint-st doctor`."""

from __future__ import annotations

import argparse
import functools

from joint_st import storage
from joint_st.cli.options import config_argument, load_config, process_arguments, quiet_libraries, read_config
from joint_st.cli.parser import OVERRIDES, Commands, folder, output_file


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    doctor = commands.add(
        "doctor",
        "look at what a run needs before it costs anything: devices, data, disks, memory, clocks",
        """
        joint-st doctor
        joint-st doctor configs/quickstart.py
        joint-st doctor runs/quickstart --json checks.json
        joint-st doctor configs/multilingual_600m.py --workdir gs://bucket/run --topology v5e:16x16
        srun joint-st doctor configs/librispeech_960h.py --workdir /shared/run
        """,
        f"%(prog)s [CONFIG] [--workdir RUN] [--topology NAME] [--json FILE] {OVERRIDES}",
        "Config",
    )
    config_argument(doctor)
    doctor.add_argument(
        "--workdir",
        metavar="RUN",
        type=folder,
        help="directory that the run will have, or gs://BUCKET/FOLDER; `runs/NAME` by default, NAME from the config",
    )
    doctor.add_argument(
        "--topology",
        metavar="NAME",
        help="the TPU slice that the run is meant for, as in v5e:16x16, in place of the devices of this machine",
    )
    doctor.add_argument("--json", metavar="FILE", type=output_file, help="write the checks as a list of JSON objects")
    process_arguments(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> None:
    if options.help:
        load_config(options)
        return
    quiet_libraries()
    from joint_st.doctor.doctor import doctor

    workdir, make, is_run = options.workdir, None, False
    if options.config is not None:
        path = storage.path(options.config)
        is_run = storage.is_remote(path) or path.is_dir()
        workdir = workdir or (path if is_run else None)
        make = functools.partial(read_config, options)

    healthy = doctor(
        make,
        is_run=is_run,
        workdir=workdir,
        topology=options.topology,
        process=(options.coordinator, options.processes, options.process),
        json_file=options.json,
    )
    if not healthy:
        raise SystemExit(1)

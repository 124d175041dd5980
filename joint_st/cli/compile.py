"""`joint-st compile`."""

from __future__ import annotations

import argparse

from joint_st.cli.options import config_argument, load_config, quiet_libraries
from joint_st.cli.parser import MOST, OVERRIDES, Commands, count, number, output_file


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    ahead = commands.add(
        "compile",
        "compile the training step for a TPU slice, without one: whether it fits, what bounds it, what a run costs at least",
        """
        joint-st compile configs/librispeech_960h.py --topology v5e:4x4
        joint-st compile configs/librispeech_960h.py --topology v5e:4x4 --quick --price 1.2
        joint-st compile configs/multilingual_600m.py --topology v5e:16x16 --parallel.fsdp 16 --json pod.json
        joint-st compile configs/multilingual_2b.py --topology v5p:8x8x16 --labels 8192 --units 300
        """,
        f"%(prog)s CONFIG --topology NAME [--quick] [--labels N] [--units N] [--price PRICE] [--json FILE] {OVERRIDES}",
        "Config",
    )
    config_argument(ahead)
    ahead.add_argument(
        "--topology",
        metavar="NAME",
        help="the slice: v4, v5e, v5p or v6e, and its chips, as in v5e:2x4, v5e:16x16, v5p:8x8x16; no data is read: "
        "sizes that depend on data are assumed and printed; exit with status 1 if the step does not fit",
    )
    ahead.add_argument(
        "--quick",
        action="store_true",
        help="compile with less effort, in a sixth of the time; temporary buffers and the traffic of HBM are then approximate",
    )
    ahead.add_argument(
        "--labels", metavar="N", type=count, help="number of labels, blank included; that of the config by default"
    )
    ahead.add_argument("--units", metavar="N", type=count, help="number of text units; that of the config by default")
    ahead.add_argument(
        "--price",
        metavar="PRICE",
        type=number(0, MOST),
        help="price of an hour of one chip, in any currency: prints what the run costs at least",
    )
    ahead.add_argument(
        "--json", metavar="FILE", type=output_file, help="write the result as JSON; sizes are bytes on a chip"
    )
    ahead.set_defaults(run=_compile)


def _compile(options: argparse.Namespace) -> None:
    config = load_config(options)
    if config is None:
        return
    if options.topology is None:
        options.parser.error("--topology NAME is missing")
    quiet_libraries()
    from joint_st.compile_check.check import compile_for

    if not compile_for(
        config, options.topology, options.labels, options.units, options.json, options.quick, options.price
    ):
        raise SystemExit(1)

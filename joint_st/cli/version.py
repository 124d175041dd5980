"""`joint-st --version`."""

from __future__ import annotations

import argparse

from joint_st.versions import version_lines


class Version(argparse.Action):
    """Prints the versions and ends the command."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        print("\n".join(version_lines()))
        parser.exit()

"""`python -m joint_st` is the command `joint-st`."""

import sys

from joint_st.cli import main

if __name__ == "__main__":
    sys.exit(main())

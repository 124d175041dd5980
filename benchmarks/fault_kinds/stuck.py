"""`joint-st` in which the reading of one utterance never returns, as from a network disk whose server is gone.

    STUCK_READ=30 python -m benchmarks.fault_kinds.stuck train CONFIG ...

`STUCK_READ` is the number of utterances that are read before; `STUCK_PROCESS` chooses one of several processes; with
`SMALL_STEP` the step is one that compiles at once.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading

from joint_st import cli
from joint_st.data.dataset import Dataset
from joint_st.distributed.peers import current


def hang_after(count: int, process: int) -> None:
    """Make the `count`-th read of an utterance wait for ever."""
    load, counter = Dataset.load, itertools.count()

    def stuck(self, n, *draw):
        if current().index == process and next(counter) == count:
            threading.Event().wait()
        return load(self, n, *draw)

    Dataset.load = stuck


def main() -> int:
    hang_after(int(os.environ["STUCK_READ"]), int(os.environ.get("STUCK_PROCESS", "0")))
    if "SMALL_STEP" in os.environ:
        from joint_st.training import asr, step
        from tests.distributed import small_step

        step.init_state = small_step.init_state
        asr.make_train_step = small_step.make_train_step
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

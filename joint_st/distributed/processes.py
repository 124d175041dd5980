"""The start and the end of a command that runs as several processes, one for each host or device."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator

from joint_st import interrupts
from joint_st.distributed.jax_private import JaxStore, distributed_client
from joint_st.distributed.links import SILENT_SECONDS, START_SECONDS, is_local, rendezvous
from joint_st.distributed.peers import Peers, current, set_current
from joint_st.distributed.preflight import check_code
from joint_st.distributed.process_spec import ProcessSpec, detected_process, device_detection, stated_process
from joint_st.distributed.watch import EXIT_FAILED, EXIT_LOST, Watch
from joint_st.errors import Stalled, UserError, printable, refusal

HEARTBEAT_SECONDS = 100
"""JAX itself ends a job in which a process has been silent for this long, even if its connections still exist."""
END_SECONDS = 600
"""Time limit for all processes to end once one has."""


@contextlib.contextmanager
def processes(coordinator: str | None, count: int | None, index: int | None) -> Iterator[None]:
    """Run a block as one process of several, as the arguments or the cluster state, or alone; a context.

    Inside, `peers.current()` says which process it is. If it fails on one process, all end; see `watch`.
    """
    spec = stated_process(coordinator, count, index) or detected_process(START_SECONDS)
    if spec is None or spec.count == 1:
        yield
        return
    watch = _start(spec)
    peers = current()
    try:
        check_code(peers)
        yield
        peers.wait("the end")
    except UserError as error:
        watch.fail(_named(peers, str(error)), EXIT_LOST if isinstance(error, Stalled) else EXIT_FAILED)
    except KeyboardInterrupt:
        watch.fail(_named(peers, "interrupted"), 130)
    except SystemExit:  # all of them end, with everything saved
        peers.wait("the end")
        _leave(watch)
        raise
    except BaseException as error:
        if interrupts.came():
            watch.fail(_named(peers, "interrupted"), 130)
        if isinstance(error, OSError) and refusal(error):
            watch.fail(_named(peers, printable(refusal(error))))
        # Collectives fail here if another process is gone. One that is stopped is known to be only after its silence,
        # and what waits for it may give up before.
        waits = 2 * SILENT_SECONDS if "DEADLINE_EXCEEDED" in str(error) else 10
        if not watch.other_failed(waits):
            traceback.print_exc()
        watch.fail(_named(peers, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"))
    _leave(watch)


def _start(spec: ProcessSpec) -> Watch:
    import jax

    _keep_output_clean()
    hosts, links = rendezvous(spec)
    peers = Peers(spec.index, hosts)
    watch = Watch(peers, links)
    local = is_local(spec.coordinator.rpartition(":")[0])
    # Otherwise XLA handles SIGTERM itself, and nothing here sees it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            spec.coordinator,
            spec.count,
            spec.index,
            cluster_detection_method=device_detection(spec, hosts),
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=END_SECONDS,
            coordinator_bind_address=spec.coordinator if local else None,
        )
    except (RuntimeError, ValueError) as error:
        watch.fail(_named(peers, f"jax.distributed.initialize: {' '.join(str(error).split())[:500]}"))
    peers.store = JaxStore(distributed_client())
    set_current(peers)
    return watch


def _keep_output_clean() -> None:
    """Keep the messages of Gloo, which carries the collectives of CPUs, away from stdout, where the results go."""
    sys.stdout.flush()
    own, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    sys.stdout = open(own, "w", encoding=sys.stdout.encoding, buffering=1)


def _leave(watch: Watch) -> None:
    import jax

    watch.close()
    jax.distributed.shutdown()


def _named(peers: Peers, message: str) -> str:
    """Return the message with this process in front, unless it begins with a process already, as those of `preflight`
    do."""
    return message if re.match(r"process \d+ on ", message) else f"{peers.name()}: {message}"

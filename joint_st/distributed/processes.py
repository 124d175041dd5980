"""The start and the end of a command that runs as several processes, one for each host or device."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator

from joint_st.distributed.links import START_SECONDS, is_local, rendezvous
from joint_st.distributed.peers import JaxStore, Peers, current, set_current
from joint_st.distributed.place import ProcessSpec, detected_place, device_detection, stated_place
from joint_st.distributed.preflight import check_code
from joint_st.distributed.watch import Watch
from joint_st.errors import UserError

HEARTBEAT_SECONDS = 100
"""After which JAX itself ends a job in which a process has stopped without its connections being closed."""
END_SECONDS = 600
"""In which all processes leave once one has."""


@contextlib.contextmanager
def processes(coordinator: str | None, count: int | None, index: int | None) -> Iterator[None]:
    """What is inside runs on this process as one of several: as stated, as the cluster says, or alone.

    Inside, `peers.current()` says which one it is. Where it fails on one process, all end; see `watch`.
    """
    place = stated_place(coordinator, count, index) or detected_place(START_SECONDS)
    if place is None or place.count == 1:
        yield
        return
    watch = _start(place)
    peers = current()
    try:
        check_code(peers)
        yield
        peers.wait("the end")
    except UserError as error:
        watch.fail(_named(peers, str(error)))
    except KeyboardInterrupt:
        watch.fail(_named(peers, "interrupted"), 130)
    except SystemExit:  # all of them leave, with everything saved
        peers.wait("the end")
        _leave(watch)
        raise
    except BaseException as error:
        # Where another process is gone, collectives fail here.
        if not watch.other_failed(10):
            traceback.print_exc()
        watch.fail(_named(peers, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"))
    _leave(watch)


def _start(place: ProcessSpec) -> Watch:
    import jax

    _keep_output_clean()
    hosts, links = rendezvous(place)
    peers = Peers(place.index, hosts)
    watch = Watch(peers, links)
    local = is_local(place.coordinator.rpartition(":")[0])
    # XLA takes SIGTERM for itself otherwise, and keeps it where nobody asks.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.count,
            place.index,
            cluster_detection_method=device_detection(place, hosts),
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=END_SECONDS,
            coordinator_bind_address=place.coordinator if local else None,
        )
    except (RuntimeError, ValueError) as error:
        watch.fail(_named(peers, f"jax.distributed.initialize: {' '.join(str(error).split())[:500]}"))
    peers.store = JaxStore(jax._src.distributed.global_state.client)
    set_current(peers)
    return watch


def _keep_output_clean() -> None:
    """Gloo, which carries the collectives of CPUs, tells of its connections on stdout, where the results go."""
    sys.stdout.flush()
    own, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    sys.stdout = open(own, "w", encoding=sys.stdout.encoding, buffering=1)


def _leave(watch: Watch) -> None:
    import jax

    watch.close()
    jax.distributed.shutdown()


def _named(peers: Peers, message: str) -> str:
    """The message, which the checks of `preflight` begin with the process that they are about."""
    return message if re.match(r"process \d+ on ", message) else f"{peers.name()}: {message}"

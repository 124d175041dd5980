"""Finds which process of how many this is, from the options of the command or the environment of the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from joint_st.distributed.jax_private import cluster
from joint_st.errors import UserError

CLUSTERS = ("ompi", "slurm", "gketpu", "gcetpu")
"""Detected by JAX, in this order: Open MPI, Slurm, and TPUs of Kubernetes Engine and of Compute Engine."""

OPTIONS = ("--coordinator", "--processes", "--process")


class ProcessSpec(NamedTuple):
    """One process of a job."""

    coordinator: str
    """HOST:PORT that process 0 listens on."""
    count: int
    """Processes in the job."""
    index: int
    """Number of this process, from 0."""
    cluster: str = ""
    """One of `CLUSTERS` if it was detected; empty if the options state the process."""


def device_detection(spec: ProcessSpec, hosts: Sequence[str]) -> str:
    """Return how JAX shall find the devices of a process, for `jax.distributed.initialize`; `hosts` are those of all
    processes.

    With its detection of Slurm or Open MPI, JAX would take one GPU for each process even if that is alone on its host.
    """
    return spec.cluster if spec.cluster and hosts.count(hosts[spec.index]) > 1 else "deactivate"


def stated_process(coordinator: str | None, processes: int | None, process: int | None) -> ProcessSpec | None:
    """Return the process that the three options name; None without them. Raises `UserError` where only some are
    given."""
    given = (coordinator, processes, process)
    if given == (None, None, None):
        return None
    missing = [option for option, value in zip(OPTIONS, given) if value is None]
    if missing:
        raise UserError(f"{' and '.join(missing)}: missing; say {', '.join(OPTIONS)} together, or none of them")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator {coordinator}: written HOST:PORT, the address of process 0, as in host-a:8476")
    if process >= processes:
        raise UserError(f"--process {process}: counted from 0, so below --processes {processes}")
    return ProcessSpec(coordinator, processes, process)


def detected_process(seconds: int, environment: Mapping[str, str] = os.environ) -> ProcessSpec | None:
    """Return which process this is according to the cluster; None where it runs alone, for instance in a shell on a
    login node.

    seconds: time limit for looking up the host of process 0. Raises `UserError` where a cluster does not answer, or
    does not say enough.
    """
    # A shell inside an allocation has the allocation's variables, although it is a single task.
    if environment.get("SLURM_STEP_NUM_TASKS") == "1":
        return None
    try:
        for name in CLUSTERS:
            kind = cluster(name)
            if kind.is_env_present():
                if kind.get_process_count() == 1:
                    return None
                address = kind.get_coordinator_address(seconds, environment.get("JAX_COORDINATOR_PORT"))
                return ProcessSpec(address, kind.get_process_count(), kind.get_process_id(), name)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{name}: the cluster does not say which processes there are ({error}); say {', '.join(OPTIONS)}"
        ) from error
    size = environment.get("OMPI_COMM_WORLD_SIZE", "1")
    if not size.isdecimal():
        raise UserError(f"OMPI_COMM_WORLD_SIZE={size}: no number of processes; unset it, or say {', '.join(OPTIONS)}")
    if int(size) > 1:
        raise UserError(
            "Open MPI from version 5 on does not say where its processes are; say --coordinator HOST:PORT "
            "--processes $OMPI_COMM_WORLD_SIZE --process $OMPI_COMM_WORLD_RANK"
        )
    return None

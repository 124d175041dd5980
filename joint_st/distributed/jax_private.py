"""Every private name of JAX that this package uses, and why; `tests/distributed/test_jax_private.py` tries each.

- `jax._src.clusters.ClusterEnv`: which process of how many this is, on Slurm, Open MPI and Cloud TPUs. The public
`jax.distributed.initialize` uses it too, but then waits for the others at once; missing hosts must be named before
that, and a shell inside an allocation must run alone.
- `jax._src.distributed.global_state.client` and its methods `key_value_set`, `blocking_key_value_get` and
  `wait_at_barrier`: they exchange small values between processes while no device computes. The public API has only
  collectives (`jax.experimental.multihost_utils`), which compile a program and hang where a process is missing.
"""

from __future__ import annotations

from typing import Any, Protocol


class Cluster(Protocol):
    """The methods of a kind of `ClusterEnv` that are used."""

    name: str

    def is_env_present(self) -> bool:
        """Return whether this process runs in such a cluster."""

    def get_process_count(self) -> int:
        """Return how many processes the job has."""

    def get_process_id(self) -> int:
        """Return which one of them this is, from 0."""

    def get_coordinator_address(self, timeout_secs: int | None, override_coordinator_port: str | None) -> str:
        """Return HOST:PORT of process 0."""


def cluster(name: str) -> Cluster:
    """Return JAX's detection of a kind of cluster: `ompi`, `slurm`, `gketpu` or `gcetpu`. Raises `KeyError` for
    others."""
    from jax._src.clusters import ClusterEnv

    return {kind.name: kind for kind in ClusterEnv._cluster_types}[name]


def distributed_client() -> Any:
    """Return the client of JAX's key-value store, after `jax.distributed.initialize`; None before."""
    from jax._src import distributed

    return distributed.global_state.client


class JaxStore:
    """The store (`joint_st.distributed.peers.Store`) of `jax.distributed`, which process 0 keeps."""

    def __init__(self, client: Any):
        self._client = client

    def set(self, key: str, value: str) -> None:
        """Store a value."""
        self._client.key_value_set(f"joint_st/{key}", value, allow_overwrite=True)

    def get(self, key: str, seconds: float) -> str | None:
        """Return the value as soon as there is one; None where there is none in time."""
        return self._in_time(lambda: self._client.blocking_key_value_get(f"joint_st/{key}", int(seconds * 1000)))

    def wait(self, name: str, seconds: float) -> bool:
        """Return True once all processes wait under this name; False where some do not come in time."""
        barrier = f"joint_st/{name}"
        return bool(self._in_time(lambda: self._client.wait_at_barrier(barrier, int(seconds * 1000)) or True))

    def _in_time(self, action):
        from jax.errors import JaxRuntimeError

        try:
            return action()
        except JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            return None

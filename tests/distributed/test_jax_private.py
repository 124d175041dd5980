"""The private names of JAX that the package uses: each is there and does what it is used for."""

from __future__ import annotations

import ast
import inspect
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import joint_st
from joint_st.distributed import jax_private
from joint_st.distributed.process_spec import CLUSTERS
from tests.tiny import environment

CHANGED = f"JAX {jax.__version__} has changed a private name; adapt joint_st/distributed/jax_private.py: "


def test_only_one_file_uses_private_names_of_jax():
    root = Path(joint_st.__file__).parent
    users = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            attribute = node.attr if isinstance(node, ast.Attribute) else ""
            if attribute == "_src" or any(name.startswith(("jax._", "jaxlib")) for name in modules):
                users.add(path.relative_to(root).as_posix())
    assert users == {"distributed/jax_private.py"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_kinds_of_clusters(name):
    try:
        kind = jax_private.cluster(name)
    except (ImportError, AttributeError, KeyError) as error:
        pytest.fail(f"{CHANGED}the cluster {name!r} of jax._src.clusters ({error!r})")
    assert callable(kind.is_env_present) and not inspect.signature(kind.is_env_present).parameters, CHANGED
    for method, count in (("get_process_count", 0), ("get_process_id", 0), ("get_coordinator_address", 2)):
        parameters = inspect.signature(getattr(kind, method)).parameters
        assert len(parameters) == count, f"{CHANGED}{name}.{method} takes {list(parameters)}"


def test_key_value_store():
    """One process alone: a value, a value that is not there, a barrier, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    command = [sys.executable, "-c", _STORE, address]
    done = subprocess.run(command, env=environment(), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, CHANGED + done.stderr
    assert done.stdout.split() == ["None", "ä", "None", "True"], CHANGED + done.stdout


_STORE = """
import sys
import jax
from joint_st.distributed.jax_private import JaxStore, distributed_client
print(distributed_client())
jax.distributed.initialize(sys.argv[1], 1, 0, cluster_detection_method="deactivate", coordinator_bind_address=sys.argv[1])
store = JaxStore(distributed_client())
store.set("key", "a")
store.set("key", "\\u00e4")
sys.stdout.reconfigure(encoding="utf-8")
print(store.get("key", 1), store.get("other", 0.1), store.wait("all", 5))
jax.distributed.shutdown()
"""

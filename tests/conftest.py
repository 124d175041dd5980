"""Fixtures shared by all tests."""

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without LLVM's optimisation XLA takes about half the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# Workers and subprocesses share what one of them has compiled.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="joint_st_compiled_")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded speech; tests that need it are skipped where there is none."""
    root = os.environ.get("JOINT_ST_DATA")
    if root:
        if not Path(root).is_dir():
            pytest.fail(f"JOINT_ST_DATA is {root}, which is no folder")
        return Path(root).resolve()
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not beside.is_dir():
        pytest.skip("no recorded speech: set JOINT_ST_DATA to its folder")
    return beside


@pytest.fixture(scope="session")
def corpora(tmp_path_factory, worker_id) -> Path:
    """A TFDS folder with `spoken_grammar/tiny`, built once for all workers."""
    from joint_st.data.corpora import build_if_absent

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "corpora"
    build_if_absent("spoken_grammar/tiny", str(folder))
    return folder

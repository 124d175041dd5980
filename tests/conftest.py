"""Fixtures shared by all tests."""

import atexit
import fcntl
import importlib.metadata
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests import processes

# Where a shell starts pytest in the background it has SIGINT ignored, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little: without LLVM's optimisation XLA takes about half the time, and its older way of
# writing fusions saves another third.
flags = "--xla_backend_optimization_level=0"
if (
    importlib.metadata.version("jaxlib") < "0.11"
):  # a later XLA has no older way, and aborts at a flag that it does not know
    flags += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", flags)
# Workers and subprocesses share what one of them has compiled.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.mkdtemp(prefix="joint_st_compiled_")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture(scope="session", autouse=True)
def no_process_outlives_the_tests():
    """Kill processes that tests have started and left behind, because they failed or because a killed process had
    children."""
    processes.mark()
    yield
    processes.end_all()


@pytest.fixture
def no_process_outlives_the_test():
    """The same after a single test, for files whose tests start processes that may run for long."""
    yield
    processes.end_all()


@pytest.fixture(scope="session")
def only_kinds_of_the_package():
    """Fail where a file of tests registers a kind when it is imported: all workers import all files."""
    from tests import registries

    for thing, kinds in registries.KINDS.items():
        for name in kinds.names():
            assert kinds[name].__module__.startswith("joint_st."), (
                f"{thing} {name} is registered by {kinds[name].__module__}"
            )


@pytest.fixture(scope="module", autouse=True)
def kinds_end_with_their_tests(only_kinds_of_the_package):
    """Fail where a file of tests leaves kinds registered, which others would meet in some orders of the tests alone."""
    from tests import registries

    before = registries.names()
    yield
    assert registries.names() == before


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded speech; tests that need it are skipped where there is none."""
    root = os.environ.get("JOINT_ST_DATA")
    if not root:
        pytest.skip("no recorded speech: set JOINT_ST_DATA to its folder")
    if not Path(root).is_dir():
        pytest.fail(f"JOINT_ST_DATA is {root}, which is no folder")
    return Path(root).resolve()


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """`once(name, make)`: the folder `name`, filled by `make(folder)` once for all workers and only read."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def get(name, make) -> Path:
        folder, draft = base / name, base / f"{name}.draft"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(draft, ignore_errors=True)
                make(draft)
                draft.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def corpora(once) -> Path:
    """A TFDS folder with `spoken_grammar/tiny`."""
    from joint_st.data.corpora import build_if_absent

    return once("corpora", lambda folder: build_if_absent("spoken_grammar/tiny", str(folder)))


@pytest.fixture(scope="session")
def trained(once, corpora) -> Path:
    """A run of 24 steps without test splits; dropout and SpecAugment are on, no cadence divides another."""

    def make(folder):
        from joint_st.training.asr import train_asr
        from tests.tiny import tiny_config

        changes = {"data.test": {}, "training.steps": 24, "training.log_every": 5}
        cadence = {"training.checkpoint_every": 4, "training.evaluate_every": 9}
        train_asr(tiny_config(corpora, changes | cadence), folder)

    return once("trained", make)


@pytest.fixture(scope="session")
def spoken(once, corpora) -> Path:
    """A folder with the test split of the corpus as WAV files, and the manifest `test.jsonl` of them."""

    def make(folder):
        import json

        import soundfile

        from joint_st.config import TfdsSource
        from joint_st.data.sources import open_source

        corpus = open_source(TfdsSource(name="spoken_grammar/tiny", split="test", data_dir=str(corpora)))
        folder.mkdir()
        lines = []
        for i in range(len(corpus)):
            utterance = corpus[i]
            soundfile.write(folder / f"{utterance.id}.wav", utterance.audio, utterance.sample_rate)
            seconds = len(utterance.audio) / utterance.sample_rate
            line = {"id": utterance.id, "audio_filepath": f"{utterance.id}.wav", "duration": seconds}
            line["text"] = utterance.text
            lines.append(json.dumps(line) + "\n")
        (folder / "test.jsonl").write_text("".join(lines))

    return once("spoken", make)


@pytest.fixture(scope="session")
def cloud():
    """A stand-in for Google Cloud Storage, which this process and its subprocesses use."""
    from tests.gcs import serve

    with serve() as (store, environment):
        os.environ.update(environment)
        yield store


@pytest.fixture
def bucket(cloud) -> str:
    """The name of a new bucket in `cloud`."""
    name = f"bucket-{len(cloud.buckets)}"
    cloud.buckets[name] = {}
    yield name
    cloud.refuse = lambda method, bucket, name: None
    assert not cloud.unknown

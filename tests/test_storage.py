"""Files in a bucket: through the real gcsfs, to a stand-in for the service."""

import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from joint_st import storage
from joint_st.cli import main
from joint_st.distributed import preflight
from joint_st.distributed.preflight import check_directory
from joint_st.errors import UserError
from joint_st.reports.charts import training_charts
from joint_st.training.asr import COLUMNS
from joint_st.training.loggers import CsvLogger, TensorBoardLogger
from tests.distributed.fake_store import on_all
from tests.tiny import environment
from tests.training.test_loggers import tensorboard_values


def test_paths(cloud):
    assert type(storage.path("runs/one")) is type(Path("runs/one")) and storage.path("runs/one") == Path("runs/one")
    there = storage.path("gs://bucket/runs/one/")
    assert str(there) == str(storage.path(there)) == "gs://bucket/runs/one"
    assert storage.is_remote(there / "metrics.csv") and not storage.is_remote(Path("gs:/bucket"))
    for text in ("s3://bucket/run", "gs://bucket", "gs://bucket/", "https://storage.googleapis.com/bucket/run"):
        with pytest.raises(UserError, match=f"{text}: give a path on a disk, or gs://BUCKET/FOLDER"):
            storage.path(text)
    with pytest.raises(UserError, match="gs:/bucket/run: a slash is missing; a place in a bucket is written gs://"):
        storage.path("gs:/bucket/run")


@pytest.mark.parametrize(
    "command",
    [
        "align runs/one a.wav text --output",
        "transcribe runs/one a.wav --format json --output",
        "compile configs/quickstart.py --topology v5e:2x4 --json",
        *(f"sweep sweep.py --collect --{kind}" for kind in ("json", "markdown", "csv", "plot")),
    ],
)
def test_no_result_is_written_below_a_folder_named_like_a_scheme(command, capsys):
    assert main([*command.split(), "s3://bucket/file"]) == 2
    assert "s3://bucket/file: give a path on a disk, or gs://BUCKET/FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tokenizer", "ngram"])
def test_what_is_read_from_disks_is_written_to_none_but_disks(command, capsys):
    assert main(["data", command, "configs/quickstart.py", "--out", "gs://bucket/out"]) == 2
    assert "'gs://bucket/out' is in a bucket; give a path on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        *(f"transcribe runs/one a.wav {option} FILE" for option in ("--lm", "--hot-words", "--rescore")),
        "evaluate runs/one --decoder beam --lm FILE",
        "transcribe runs/one FILE",
        "align runs/one FILE text",
        "sweep FILE",
    ],
)
def test_a_file_that_only_a_disk_can_have_is_not_looked_for_in_a_bucket(command, capsys):
    assert main(command.replace("FILE", "gs://bucket/file").split()) == 2
    error = capsys.readouterr().err
    assert "'gs://bucket/file' is not on this machine; copy it here, and give its path" in error
    assert error.count("\n") == 1


def test_without_gcsfs(monkeypatch, capsys, cloud):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    storage._epath.cache_clear()
    assert main(["evaluate", "gs://bucket/run"]) == 2
    assert capsys.readouterr().err == "joint-st: error: gs:// paths need: pip install 'joint_st[gcs]'\n"


@pytest.mark.parametrize("remote", [False, True])
def test_files(cloud, bucket, tmp_path, remote):
    """The same on a disk and in a bucket."""
    folder = storage.path(f"gs://{bucket}/run" if remote else tmp_path / "run")
    assert storage.modified(folder) == storage.modified(folder / "a") == 0
    storage.remove_folder(folder)
    storage.write_whole(folder / "a", "hé\r\n")
    first = storage.modified(folder / "a")
    storage.write_whole(folder / "a", b"h\xc3\xa9")
    storage.write_whole(folder / "deep" / "b", "b")
    assert (folder / "a").read_text(encoding="utf-8") == "hé" and (folder / "deep" / "b").read_bytes() == b"b"
    assert sorted(entry.name for entry in folder.iterdir()) == ["a", "deep"]
    assert 0 < first <= storage.modified(folder / "a") <= storage.modified(folder)
    storage.remove_folder(folder)
    assert not folder.exists()


@pytest.fixture
def scored(tmp_path) -> tuple[str, ...]:
    """A command that scores one utterance, with an error in two words."""
    (tmp_path / "ref.trn").write_text("one two (u1)\n")
    (tmp_path / "hyp.trn").write_text("one too (u1)\n")
    return "score", str(tmp_path / "ref.trn"), str(tmp_path / "hyp.trn"), "--json"


def test_what_a_user_names_stays_the_pipe_or_the_link_that_it_is(scored, tmp_path):
    pipe, link, real, none = (tmp_path / name for name in ("pipe", "link", "deep/real.json", "deep/none.json"))
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert main([*scored, str(pipe)]) == 0
    reader.join(10)
    assert json.loads(read[0])["systems"][0]["wer"] == 0.5 and pipe.is_fifo()
    real.parent.mkdir()
    real.write_text("old")
    for target in (real, none):  # what a link names need not be there
        link.unlink(missing_ok=True)
        link.symlink_to(target.relative_to(tmp_path))
        assert main([*scored, str(link)]) == 0
        assert link.is_symlink() and target.read_bytes() == read[0]
    assert sorted(entry.name for entry in real.parent.iterdir()) == ["none.json", "real.json"]


def test_standard_output_that_is_a_file_keeps_what_is_printed(scored, tmp_path):
    for name in ("/dev/stdout", tmp_path / "both"):
        with (tmp_path / "both").open("wb") as both:
            command = [sys.executable, "-m", "joint_st", *scored, str(name)]
            subprocess.run(command, stdout=both, check=True, env=environment())
        rows, end = json.JSONDecoder().raw_decode((tmp_path / "both").read_text())
        assert rows["systems"][0]["wer"] == 0.5 and "50.0" in (tmp_path / "both").read_text()[end:]


def test_a_pipe_that_refuses_is_told_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    threading.Timer(0.1, os.close, [reader]).start()
    with pytest.raises(UserError, match="^[^\n]*/pipe: could not be written: Broken pipe$"):
        storage.write_output(tmp_path / "pipe", b"a" * 2**20)


def test_a_folder_is_published_with_one_file_last(cloud, bucket, tmp_path):
    place = storage.path(f"gs://{bucket}/run/tokenizer")
    cloud.refuse = lambda method, bucket, name: 403 if name.endswith("b.model") else None
    with pytest.raises(UserError, match="not allowed"), storage.draft_folder(place) as draft:
        (draft / "pieces").mkdir()
        for name in ("a.json", "b.model"):
            (draft / "pieces" / name).write_text(name)
        storage.move_into_place(draft / "pieces", place, last="a.json")
    assert cloud.names(bucket) == [] and not draft.exists()
    cloud.refuse = lambda *_: None
    with storage.draft_folder(place) as draft:
        (draft / "words").write_text("w")
        storage.move_into_place(draft / "words", place.parent / "words")
    assert cloud.names(bucket) == ["run/words"]


@pytest.mark.parametrize("size", [0, 1 << 10, 6 << 20])
def test_a_listing_of_many_objects_and_a_large_one(cloud, bucket, size):
    folder = storage.path(f"gs://{bucket}/run")
    content = bytes(range(256)) * (size // 256)
    storage.write_whole(folder / "large", content)
    assert (folder / "large").read_bytes() == content
    for i in range(0, 100 if size == 0 else 0):  # the stand-in answers with 40 at once
        cloud.put(bucket, f"run/many/{i}", b"")
    if size == 0:
        assert sorted(int(entry.name) for entry in (folder / "many").iterdir()) == list(range(100))


def metrics(path, steps, resume_at=0):
    logger = CsvLogger(path, ("loss", "wer"), resume_at=resume_at)
    for step in steps:
        logger.log(step, {"loss": step / 7, "wer": None})
    return logger


def test_metrics_in_a_bucket_are_those_on_a_disk(cloud, bucket, tmp_path):
    there, here = storage.path(f"gs://{bucket}/run/metrics.csv"), tmp_path / "metrics.csv"
    for path in (there, here):
        metrics(path, range(30)).close()
        logger = metrics(path, range(21, 25), resume_at=20)
        logger.flush()
    assert there.read_bytes() == here.read_bytes() and here.read_bytes().count(b"\r\n") == 26
    assert training_charts(there, COLUMNS) == training_charts(here, COLUMNS) != []
    # A line cut short, as a file copied from a machine that died may have.
    cloud.put(bucket, "run/metrics.csv", here.read_bytes()[:-3])
    metrics(there, [], resume_at=99).close()
    assert there.read_bytes() == b"".join(here.read_bytes().splitlines(keepends=True)[:-1])


def test_metrics_that_could_not_be_stored_come_with_the_next(cloud, bucket):
    path = storage.path(f"gs://{bucket}/run/metrics.csv")
    logger = metrics(path, [1])
    logger.flush()
    cloud.refuse = lambda method, *_: 403 if method == "POST" else None
    logger.log(2, {"loss": 1.0})
    with pytest.raises(UserError, match=f"gs://{bucket}/run/metrics.csv: not allowed"):
        logger.flush()
    assert cloud.text(bucket, "run/metrics.csv").splitlines()[-1].startswith("1,")
    cloud.refuse = lambda *_: None
    logger.flush()
    assert cloud.text(bucket, "run/metrics.csv").splitlines()[-1] == "2,1.0,"
    logger.close()


def test_tensorboard_events_in_a_bucket(cloud, bucket, tmp_path):
    logger = TensorBoardLogger(storage.path(f"gs://{bucket}/run/tensorboard"), resume_at=0)
    logger.log(7, {"loss": 0.25})
    logger.flush()
    assert len(cloud.names(bucket, "run/tensorboard/events.out.tfevents.")) == 1
    logger.log(8, {"loss": 0.5})
    logger.close()
    folder = cloud.download(bucket, "run/tensorboard", tmp_path)
    assert [(step, value.simple_value) for step, value in tensorboard_values(folder)] == [(7, 0.25), (8, 0.5)]


def refused(status, needle="", method=""):
    return lambda *request: status if request[0].startswith(method) and needle in request[2] else None


ROLES = "the roles roles/storage.objectUser and roles/storage.legacyBucketReader on the bucket"


@pytest.mark.parametrize(
    "arguments, refuse, message",
    [
        (
            "evaluate gs://{none}/run",
            None,
            "gs://{none}/run: no such bucket; create it with `gcloud storage buckets create gs://{none}`",
        ),
        ("evaluate gs://{bucket}/run", None, "gs://{bucket}/run: no such directory"),
        (
            "evaluate gs://{bucket}/run",
            refused(401),
            "gs://{bucket}/run: no credentials for it (someone does not have "
            "access to {bucket}/, or it may not exist., 401); on a machine of one's own: `gcloud auth "
            "application-default login`",
        ),
        (
            "transcribe gs://{bucket}/run x.wav",
            refused(403),
            "gs://{bucket}/run: not allowed (someone "
            "does not have access to {bucket}/, or it may not exist.); give the account, or the machine's service "
            "account, " + ROLES,
        ),
        ("train {config} --workdir gs://{none}/run", None, "gs://{none}/run: no such bucket; "),
        (
            "train {config} --workdir gs://{bucket}/run",
            refused(403, "config.json", "POST"),
            "gs://{bucket}/run/config.json: not allowed (someone ",
        ),
        ("sweep {sweep} --workdir gs://{none}/sweep", None, "gs://{none}/sweep: no such bucket; "),
        ("train gs://{bucket}/run", None, "gs://{bucket}/run: no such file"),
    ],
)
def test_what_a_bucket_refuses_is_told_in_a_line(cloud, bucket, tmp_path, capsys, arguments, refuse, message):
    names = {"bucket": bucket, "none": f"not-{bucket}", "config": tmp_path / "a.py", "sweep": tmp_path / "s.py"}
    names["config"].write_text(
        "from joint_st.config import Config, DataConfig, TfdsSource\n"
        "def config():\n"
        '    x = TfdsSource(name="grammar", split="a")\n'
        '    return Config(data=DataConfig(train=(x,), test={"test": x}))\n'
    )
    names["sweep"].write_text("from joint_st.sweeps import Run\nBASE = 'a.py'\ndef runs():\n    yield Run('a')\n")
    if refuse:
        cloud.refuse = refuse
    assert main(arguments.format(**names).split()) == 2
    told = capsys.readouterr().err
    assert told.startswith("joint-st: error: " + message.format(**names)) and told.count("\n") == 1


def test_what_libraries_of_buckets_log_is_not_printed_beside_the_error(cloud, bucket):
    """It is raised as an exception too, and the log has a traceback for each."""
    storage.path(f"gs://{bucket}/run")
    for name in ("gcsfs.credentials", "fsspec.prefetcher"):
        assert not logging.getLogger(name).isEnabledFor(logging.ERROR)


def test_every_host_writes_into_the_bucket(cloud, bucket, monkeypatch):
    monkeypatch.setattr(preflight, "ANSWER_SECONDS", 0.5)
    root = storage.path(f"gs://{bucket}/run")
    assert on_all(lambda peers: check_directory(peers, root, 2) or "passed") == ["passed"] * 3
    assert cloud.names(bucket) == []
    other = storage.path(f"gs://{bucket}/other")
    found = on_all(lambda peers: check_directory(peers, other if peers.index == 2 else root, 0.3))
    assert str(found[0]) == (
        f"process 2 on host-c: {other} is not the directory that process 0 on host-a made there; give a --workdir that "
        "all hosts share"
    )
    cloud.refuse = refused(403, "preflight/1", "POST")
    found = on_all(lambda peers: check_directory(peers, root, 0.3))
    assert str(found[0]).startswith(f"process 1 on host-b: {root}: not allowed (")


def test_compiled_programs_in_a_bucket(cloud, bucket):
    code = (
        "import jax; from joint_st.distributed.mesh import keep_compiled; "
        f"keep_compiled('gs://{bucket}/compiled'); print(jax.jit(lambda x: x * 3 + 1)(2.0))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.stdout == "7.0\n", done.stderr
    assert [name for name in cloud.names(bucket) if name.startswith("compiled/jit_") and name.endswith("-cache")]


def test_a_growing_file_on_a_disk_is_replaced_at_once(tmp_path):
    file = storage.append_file(tmp_path / "metrics.csv", "a\r\n")
    assert isinstance(file, io.TextIOWrapper)
    file.write("b\r\n")
    assert (tmp_path / "metrics.csv").read_bytes() == b"a\r\nb\r\n"
    file.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_the_version_of_a_file_changes_whenever_it_does(tmp_path, bucket):
    for path in (tmp_path / "a.txt", storage.path(f"gs://{bucket}/folder/a.txt")):
        storage.write_whole(path, "one")
        first = storage.version(path)
        assert storage.version(path) == first
        storage.write_whole(path, "two")
        assert storage.version(path) != first


def test_drafts_of_processes_on_two_hosts_are_two(tmp_path, monkeypatch):
    names = set()
    for host in ("a", "b", "a"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host * 64)
        names.add(storage.draft_of(tmp_path / ("x" * 192)).name)
    assert len(names) == 2 and max(map(len, names)) < 256

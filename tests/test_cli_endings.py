"""How commands end: by an interrupt, an error of a file system, a reader that has left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from joint_st.cli import main
from joint_st.cli.options import quiet_libraries
from joint_st.errors import Stalled
from tests.tiny import environment, small_config


@pytest.fixture
def config(tmp_path) -> Path:
    return small_config(tmp_path)


def test_an_interrupt_is_one_line(monkeypatch, capsys, config):
    def interrupt(*_):
        raise KeyboardInterrupt

    stub = types.ModuleType("joint_st.training.asr")
    stub.train_asr = interrupt
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    assert main(["train", str(config)]) == 130
    assert capsys.readouterr().err == "joint-st: interrupted\n"


@pytest.mark.parametrize(
    "module, status, line",
    [
        # Before the command line can say so, as any command ends; later in one line.
        ("argparse", -signal.SIGINT, ""),
        ("jax", 130, "joint-st: interrupted\n"),
    ],
)
def test_an_interrupt_while_modules_are_imported(config, tmp_path, module, status, line):
    """An extension turns it into an ImportError."""
    late = "except KeyboardInterrupt as error:\n    raise ImportError from error" if line else "finally:\n    pass"
    signals = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    for _ in range(9**6): pass\n"
    (tmp_path / f"{module}.py").write_text(signals + late)
    paths = {"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"}
    command = [sys.executable, "-m", "joint_st", "train", str(config), "--workdir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**paths))
    assert (done.returncode, done.stderr) == (status, line)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ESTALE])
def test_a_file_system_that_fails_is_told_though_no_file_is_named(monkeypatch, capsys, config, number):
    def run(options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("joint_st.cli.train._train", run)
    assert main(["train", str(config)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"joint-st: error: a file could not be written or read: {os.strerror(number)}")


def test_what_fails_in_libraries_below_is_not_printed_for_each_array(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", None)
    monkeypatch.setattr(sys, "__unraisablehook__", printed.append)
    quiet_libraries()
    from_cpp, from_python = types.SimpleNamespace(object=None), types.SimpleNamespace(object=main)
    sys.unraisablehook(from_cpp)
    sys.unraisablehook(from_python)
    assert printed == [from_python]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_as_one_that_nobody_reads(config, closed):
    """The first file that is opened does not get its number."""
    command = ["bash", "-c", f'exec "$@" {closed}', "bash", sys.executable, "-m", "joint_st"]
    done = subprocess.run([*command, "train", str(config), "--print-config"], capture_output=True, env=environment())
    assert (done.returncode, done.stderr) == (0, b"")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_an_error_ends_the_process_whatever_its_threads_wait_for():
    program = """
import sys, threading
from joint_st.__main__ import main
threading.Thread(target=threading.Event().wait).start()
sys.argv = ["joint-st", "evaluate", "nowhere"]
sys.exit(main())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stderr) == (2, "joint-st: error: nowhere: no such directory\n")


def test_a_table_whose_reader_has_left_is_no_error(monkeypatch, config):
    """Rich, which prints it, would exit with status 1."""

    def show(options):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904

    monkeypatch.setattr("joint_st.cli.train._train", show)
    assert main(["train", str(config)]) == 141


def test_who_waits_for_what_never_comes_is_left_behind(monkeypatch, capsys, config):
    class Left(BaseException):
        pass

    def run(options):
        raise Stalled("process 0 on host-a: has been reading a for 600 s")

    def leave(status):
        raise Left(status)

    monkeypatch.setattr("joint_st.cli.train._train", run)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Left, match="75"):
        main(["train", str(config)])
    assert capsys.readouterr().err == "joint-st: error: process 0 on host-a: has been reading a for 600 s\n"


def test_a_reader_that_leaves_is_no_error(config):
    command = f"{sys.executable} -m joint_st train {config} --print-config | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.split() == ["name", "=", '"small"', "#", "default", '"run"']
    assert done.stderr == ""

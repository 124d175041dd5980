"""Unwanted output of libraries is kept off the terminal."""

from __future__ import annotations

import glob
import os

import pytest

from joint_st.cli import options


@pytest.mark.parametrize(
    ("files", "variable", "platforms"),
    [([], "", "cpu"), (["/dev/nvidia0"], "", None), (["/dev/accel0"], "", None), ([], "TPU_WORKER_ID", None)],
)
def test_libtpu_is_not_asked_for_tpus_where_there_is_no_sign_of_one(monkeypatch, files, variable, platforms):
    """It would print many lines if it finds none."""
    found = lambda pattern: [file for file in files if glob.fnmatch.fnmatch(file, pattern)]  # noqa: E731
    monkeypatch.setattr(options.glob, "glob", found)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for name in [name for name in os.environ if name.startswith("TPU_")]:
        monkeypatch.delenv(name)
    if variable:
        monkeypatch.setenv(variable, "0")
    monkeypatch.setattr(options.sys, "unraisablehook", options.sys.unraisablehook)
    options.quiet_libraries()
    assert os.environ.get("JAX_PLATFORMS") == platforms

import os
import tempfile
from pathlib import Path

import pytest

from joint_st.data import paths
from joint_st.errors import UserError


def test_home_and_variables_are_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CORPORA", "/speech")
    assert paths.expand("~/a.jsonl") == tmp_path / "a.jsonl"
    assert paths.expand("$CORPORA/a") == Path("/speech/a")
    assert paths.expand("${CORPORA}/a_${CORPORA}") == Path("/speech/a_/speech")
    assert paths.expand("relative/$") == Path("relative/$")


def test_a_user_who_is_not_known_is_named():
    with pytest.raises(UserError, match=r"~nobody_of_this_name/m.jsonl: there is no such user here"):
        paths.expand("~nobody_of_this_name/m.jsonl")


def test_an_unset_variable_is_named(monkeypatch):
    monkeypatch.delenv("CORPORA", raising=False)
    with pytest.raises(UserError, match=r"\$CORPORA/a: the environment variable CORPORA is not set"):
        paths.expand("$CORPORA/a")


def test_recorded_data_lie_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.delenv("JOINT_ST_DATA", raising=False)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    with pytest.raises(UserError) as caught:
        paths.existing("$JOINT_ST_DATA/digits/train.jsonl")
    assert str(caught.value) == (
        "$JOINT_ST_DATA/digits/train.jsonl: the environment variable JOINT_ST_DATA is not set; "
        "set it to the folder it stands for"
    )
    monkeypatch.setenv("JOINT_ST_DATA", "/elsewhere")
    assert paths.expand("$JOINT_ST_DATA/digits") == Path("/elsewhere/digits")


def test_a_missing_file_is_named_as_written_and_as_found(monkeypatch, tmp_path):
    monkeypatch.setenv("CORPORA", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/a.jsonl .from .CORPORA/a.jsonl.: no such file"):
        paths.existing("$CORPORA/a.jsonl")
    (tmp_path / "a.jsonl").touch()
    assert paths.existing("$CORPORA/a.jsonl") == tmp_path / "a.jsonl"


def test_what_can_be_computed_again_lies_among_temporary_files_where_there_is_no_home(monkeypatch, tmp_path):
    def unknown(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for _ in range(2):
        assert paths.cache_folder("index") == tmp_path / f"joint_st_index_{os.getuid()}"
    assert (tmp_path / f"joint_st_index_{os.getuid()}").stat().st_mode & 0o777 == 0o700

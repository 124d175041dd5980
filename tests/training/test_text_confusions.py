"""A run whose text is confused as a file of counts says."""

from __future__ import annotations

import numpy as np
import pytest

from joint_st.config import override
from joint_st.data.confusions import Confusions
from joint_st.data.symbols import Symbols
from joint_st.data.text_units import load_units
from joint_st.errors import UserError
from joint_st.runs.directory import RunDirectory
from joint_st.training.setup import open_confusions
from tests.field_probes import training
from tests.tiny import tiny_config

JOINT = {
    "data.units.kind": "characters",
    "data.text_batch_size": 4,
    "data.test": {},
    "losses.reconstruction.full_context": 0.5,
}


def test_a_run_keeps_the_counts_that_it_began_with(corpora, tmp_path):
    config = tiny_config(corpora, JOINT)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    training(config, tmp_path / "a")
    symbols = load_units(RunDirectory(tmp_path / "a" / "run").units).symbols
    heard = np.eye(len(symbols), dtype=int)
    counts = Confusions(symbols, heard, heard[2])
    path = tmp_path / "counts.json"
    path.write_text(counts.to_json())

    config = override(config, {"text.confusions": str(path)})
    said = training(config, tmp_path / "b")[1]
    assert f"units are confused as counted over {len(symbols)}, times 1: 0.0% substituted" in said
    run = RunDirectory(tmp_path / "b" / "run")
    assert run.text_confusions.read_bytes() == path.read_bytes()
    # A run that has no checkpoint yet, and starts again, takes those that its config names by then.
    started = RunDirectory(tmp_path / "d")
    started.root.mkdir()
    for file in (started.text_confusions, started.ngram):
        file.write_text("{}")
    started.clear()
    assert not started.text_confusions.exists() and not started.ngram.exists()
    path.unlink()
    units = Symbols(None, load_units(run.units))
    assert open_confusions(config, run, units).digest == counts.digest
    with pytest.raises(UserError, match="text.confusions: .*counts.json: no such file"):
        open_confusions(config, RunDirectory(tmp_path / "c"), units)

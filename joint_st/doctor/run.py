"""Checks of an existing run: whether it can be read back, and whether it may continue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from joint_st.config import Config
from joint_st.data.normalizers import normalizer
from joint_st.data.tokenizers import load_tokenizer
from joint_st.doctor.check import Check
from joint_st.errors import UserError
from joint_st.runs import checksums
from joint_st.runs.directory import RunDirectory, check_same, read_facts
from joint_st.runs.trained import read_symbols


def inventories(run: RunDirectory, config: Config) -> Iterator[Check]:
    """Check that its tokenizer, text units and languages can be read."""
    sizes = read_symbols(config, run).sizes
    yield Check("ok", "inventories", f"{sizes.labels} labels, {sizes.units} text units, {sizes.languages} languages")


def checkpoints(run: RunDirectory, config: Config) -> Iterator[Check]:
    """Check which checkpoints are complete, and whether they were trained on text of this version's normaliser."""
    steps = run.checkpoint_steps
    if not steps:
        do = "the command starts from the beginning; if the run should have one, it was copied only in part"
        yield Check("warning", "checkpoints", f"{run.checkpoints}: no complete checkpoint", do)
        return
    for step in steps:
        folder = run.checkpoints / str(step)
        if damage := checksums.damage(folder):
            others = [one for one in steps if one != step]
            what = f"copy {folder} again, or remove it" + (f"; --checkpoint {others[-1]} is another" if others else "")
            yield Check("problem", "checkpoints", damage, what)
        elif checksums.is_there(folder):
            yield Check("ok", "checkpoints", f"{folder}: complete, and its files match their checksums")
        else:
            yield Check("ok", "checkpoints", f"{folder}: complete; not verified, since it has no {checksums.FILE}")
    facts = read_facts(run.checkpoints / str(steps[-1]))
    now = str(normalizer(config.data.normalizer))
    if facts.get("normalizer") != now:
        what = f"trained on text of {facts.get('normalizer')}, and this version has {now}"
        yield Check("problem", "data.normalizer", what, "use the version of joint_st that trained it")


def may_go_on(run: RunDirectory, config: Config) -> Iterator[Check]:
    """Check that the config may continue the run in --workdir."""
    check_same(run, config)
    if config.evaluation.rank_by != "auto":
        from joint_st.training.asr import check_same_ranking  # imports all of a training

        check_same_ranking(run, config.evaluation.rank_by)
    told = f"{run.root}: goes on from step {run.checkpoint_steps[-1]}, if its data are those it was trained with"
    yield Check("ok", "--workdir", f"{told}, which training compares")


def existing(workdir: Path) -> RunDirectory | None:
    """Return the run in a directory if it has a checkpoint; None where there is nothing to continue."""
    run = RunDirectory(workdir)
    return run if run.config.exists() and run.has_checkpoint else None


def labels(workdir: Path) -> int | None:
    """Return the number of labels of the run that goes on in a directory; None where there is none, or where its tokenizer
    cannot be read, which `inventories` reports."""
    run = existing(workdir)
    try:
        return load_tokenizer(run.tokenizer).size if run else None
    except UserError:
        return None

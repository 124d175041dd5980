"""A name of a kind, a loss, a head or a section is given once; a file that is run again replaces its own."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest

from joint_st.config import AugmentationConfig, Config, load, override, registered
from joint_st.config.registry import unregister
from joint_st.data import augmentation, mixture
from joint_st.data.sources.corpus import OPENERS
from joint_st.errors import UserError
from joint_st.heads.base import HEADS
from joint_st.kinds import ALIGNMENTS
from joint_st.losses.base import LOSSES, make_losses
from joint_st.models.conditioning import CONDITIONINGS
from tests.test_config import CONFIG, message

OWN = f"""
from typing import Literal
from joint_st.config import AugmentationConfig, Config, LossConfig, override, register
from joint_st.data import augmentation
from joint_st.kinds import ALIGNMENTS
from joint_st.losses import Loss, register_loss

@register("losses.mine")
class MineConfig(LossConfig):
    weight: float = 0.25

@register_loss("mine")
class Mine(Loss):
    columns = ()
    scale = 1

class Canyon(AugmentationConfig):
    kind: Literal["canyon"] = "canyon"
    seconds: float = 0.5

@augmentation.augments("canyon")
class CanyonOfSpeech:
    scale = 1

@ALIGNMENTS.register("mine")
class MyAlignment:
    scale = 1

def config():
    return override(Config.model_validate_json({CONFIG.model_dump_json()!r}), {{"data.augmentation": "canyon"}})
"""


def forget() -> None:
    """Remove what `OWN` registers, as far as it came, so that no other test sees it."""
    kinds = (
        lambda: unregister("losses.mine"),
        lambda: LOSSES.forget("mine"),
        lambda: augmentation.KINDS.forget("canyon"),
        lambda: ALIGNMENTS.forget("mine"),
        lambda: AugmentationConfig.registered["canyon"].forget(),
    )
    for remove in kinds:
        with contextlib.suppress(KeyError):
            remove()


@pytest.fixture
def own(tmp_path):
    """A file that registers kinds of its own, which has been loaded."""
    file = tmp_path / "own.py"
    file.write_text(OWN)
    try:
        load(file)
        yield file
    finally:
        forget()


def test_a_file_that_is_loaded_again_registers_again(own):
    once, again = load(own), load(own)
    assert again.losses.mine.weight == 0.25 and list(registered("losses")).count("mine") == 1
    with warnings.catch_warnings(action="error"):
        assert override(once, {}) == again
    own.write_text(OWN.replace("0.25", "0.125").replace("0.5", "0.75").replace("scale = 1", "scale = 2"))
    edited = load(own)
    assert (edited.losses.mine.weight, edited.data.augmentation[0].seconds) == (0.125, 0.75)
    kinds = (LOSSES["mine"], augmentation.KINDS["canyon"], ALIGNMENTS["mine"])
    assert [kind.scale for kind in kinds] == [2, 2, 2]
    assert message(override, edited, {"losses.mine.weight": "x"}).startswith("losses.mine.weight = x: ")


def test_a_file_that_has_failed_may_be_loaded_again(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN + "\nraise ValueError('too early')\n")
    try:
        assert message(load, file).endswith("ValueError: too early")
        file.write_text(OWN)
        assert load(file).losses.mine.weight == 0.25
    finally:
        forget()


def test_another_file_does_not_replace_what_is_registered(own, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(OWN)
    assert message(load, other) == (
        f"{other}:8: ValueError: losses.mine is taken already, by MineConfig of {own}; choose another name"
    )


PREAMBLE = """from typing import Literal
from joint_st.config import *
from joint_st.data import augmentation, mixture
from joint_st.data.sources import opens
from joint_st.heads import register_head
from joint_st.kinds import ALIGNMENTS
from joint_st.losses import register_loss
from joint_st.models.conditioning import register_conditioning
"""


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            '@ALIGNMENTS.register("soft")\nclass Mine: pass',
            "soft is taken already, by joint_st.ops.matching.alignments.soft",
        ),
        ('@register_loss("ctc")\nclass Mine: pass', "ctc is taken already, by joint_st.losses.ctc"),
        ('@register_head("ctc")\nclass Mine: pass', "ctc is taken already, by joint_st.heads.ctc"),
        ('@opens("tfds")\nclass Mine: pass', "tfds is taken already, by joint_st.data.sources.tfds"),
        ('@mixture.mixes("every_row")\nclass Mine: pass', "every_row is taken already, by EveryRowOnce of {mixture}"),
        (
            'class Louder(AugmentationConfig):\n    kind: Literal["gain"] = "gain"',
            "gain is taken already, by Gain of {sections}/data.py",
        ),
        (
            '@register("losses.ctc")\nclass Mine(LossConfig): pass',
            "losses.ctc is taken already, by CtcLossConfig of {sections}/losses.py",
        ),
        (
            '@register("heads.streaming")\nclass Mine(Section): pass',
            "heads.streaming is taken already, by a field of HeadsConfig",
        ),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path, code, problem):
    file = tmp_path / "mine.py"
    file.write_text(PREAMBLE + code)
    sections = Path(mixture.__file__).parents[1] / "config" / "sections"
    problem = problem.format(mixture=mixture.__file__, sections=sections)
    line = PREAMBLE.count("\n") + 1
    assert message(load, file) == f"{file}:{line}: ValueError: {problem}; choose another name"


def test_one_file_does_not_give_a_name_twice(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PREAMBLE + 2 * '@register_loss("twice")\nclass Mine: pass\n')
    try:
        assert ": ValueError: twice is taken already, by Mine of " in message(load, file)
    finally:
        LOSSES.forget("twice")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ('@register("losses.mine")\nclass Mine(Section): pass', "losses.mine: Mine should derive from LossConfig"),
        ('@register("losses.mine")\nclass Mine: pass', "losses.mine: Mine should derive from LossConfig"),
        (
            '@register("conditioning.mine")\nclass Mine(Section): pass',
            "conditioning.mine: Mine should derive from ConditionConfig",
        ),
        (
            '@register("losses.mine")\nclass Mine(LossConfig):\n    weight: float',
            "losses.mine.weight: needs a default, since no config has to name it",
        ),
    ],
)
def test_a_section_that_does_not_fit_its_group_is_refused(tmp_path, code, problem):
    file = tmp_path / "mine.py"
    file.write_text(PREAMBLE.replace("import *", "import *\nfrom joint_st.config import ConditionConfig") + code)
    assert message(load, file).endswith(f": ValueError: {problem}")


def test_names_are_those_of_kinds_alone():
    """Other files of a folder hold what its kinds share."""
    assert set(registered("losses")) <= set(LOSSES.names()) and not {"base", "passes", "text_rows"} & set(
        LOSSES.names()
    )
    assert set(registered("conditioning")) <= set(CONDITIONINGS.names())
    assert "ctc" in HEADS.names() and not {"base", "model"} & set(HEADS.names())
    assert {"manifest", "text", "tfds"} <= set(OPENERS.names()) and "corpus" not in OPENERS.names()


def test_a_section_without_a_class_is_named(own):
    LOSSES.forget("mine")
    config: Config = load(own)
    LOSSES.forget("mine")
    try:
        with pytest.raises(UserError) as caught:
            make_losses(config)
        names = [name for name in registered("losses") if name != "mine"]
        assert str(caught.value) == (
            'losses.mine: no loss is registered for this section; register its class by @register_loss("mine"); '
            f"those registered are {', '.join(sorted(names))}"
        )
        with pytest.raises(UserError, match="data.mixture of kind mine: no mixture is registered for this section"):
            mixture.KINDS["mine"]
    finally:
        load(own)

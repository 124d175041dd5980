"""The section of a loss of text says so; the config's checks know nothing of it otherwise."""

from __future__ import annotations

import pytest
from pydantic import Field

from joint_st.config import LossConfig, override, register
from joint_st.config.registry import unregister
from joint_st.errors import UserError
from joint_st.losses import Column, Found, Loss, Pass, register_loss
from joint_st.losses.base import LOSSES, make_losses
from joint_st.training.asr import columns
from joint_st.training.step import UNLISTED, scales_at
from tests.training.test_step import CONFIG

SPEECH = {"data.units.kind": "characters"}
ALL = frozenset({"needs_text", "needs_units", "learns_from_text"})


@pytest.fixture
def own():
    """Register a loss with some passes, and a section with some of the properties; a function, for one test."""

    def make(passes: set[Pass], says: frozenset[str], column: str = "own", term: str = "own") -> None:
        @register("losses.own")
        class OwnConfig(LossConfig):
            """A loss of the tests' own."""

            weight: float = Field(default=0.0, ge=0)
            """Weight of the loss."""

            @property
            def needs_units(self):
                return (("weight", self.weight),) if "needs_units" in says else ()

            @property
            def needs_text(self):
                return self.enabled and "needs_text" in says

            @property
            def learns_from_text(self):
                return self.enabled and "learns_from_text" in says

        @register_loss("own")
        class Own(Loss):
            """A loss that computes nothing."""

            columns = (Column(column),)

            @property
            def passes(self):
                return frozenset(passes)

            def scales(self, step):
                return {term: self.section.weight}

            def weights(self, batch, available):
                return {}

            def values(self, passes, batch, available, key, mesh):
                return Found({})

    yield make
    unregister("losses.own")
    LOSSES.forget("own")


@pytest.mark.parametrize(
    ("passes", "missing"),
    [
        ({Pass.AUDIO, Pass.PAIRED_CLEAN}, "needs_text"),
        ({Pass.PAIRED_MASKED}, "needs_units"),
        ({Pass.TEXT_MASKED}, "learns_from_text"),
    ],
)
def test_a_loss_of_text_whose_section_does_not_say_so_is_refused(own, passes, missing):
    own(passes, ALL - {missing})
    (of_text,) = passes - {Pass.AUDIO}
    with pytest.raises(UserError) as caught:
        make_losses(override(CONFIG, SPEECH | {"losses.own.weight": 1.0}))
    assert str(caught.value) == (
        f"losses.own: its passes need text ({of_text.value}), and its section does not say so; give OwnConfig the property "
        f"{missing} (docs/extending.md)"
    )
    # Where it takes no part, it may be anything.
    assert "own" not in [loss.name for loss in make_losses(override(CONFIG, SPEECH))]


def test_a_loss_of_text_whose_section_says_so_is_checked_and_made(own):
    own({Pass.AUDIO, Pass.PAIRED_CLEAN}, frozenset({"needs_text", "needs_units"}))
    changes = SPEECH | {"losses.own.weight": 1.0, "training.text_from_step": 1}
    assert "own" in [loss.name for loss in make_losses(override(CONFIG, changes))]
    with pytest.raises(UserError, match="losses.own.weight: 1.0 needs text units, and data.units.kind is none"):
        override(CONFIG, changes | {"data.units.kind": "none"})


def test_a_loss_of_speech_needs_none_of_it(own):
    own({Pass.AUDIO}, frozenset())
    assert "own" in [loss.name for loss in make_losses(override(CONFIG, SPEECH | {"losses.own.weight": 1.0}))]


@pytest.mark.parametrize(
    ("name", "owner"),
    [("full_context_ctc", "losses.ctc")]
    + [(name, "every run") for name in ("step", "utterances", "dev_streaming_wer")],
)
def test_a_column_that_is_taken_is_refused(own, name, owner):
    own({Pass.AUDIO}, frozenset(), name, name)
    config = override(CONFIG, SPEECH | {"losses.own.weight": 1e-4})
    with pytest.raises(UserError) as caught:
        columns(config)
    assert str(caught.value) == f"losses.own: its column {name} is also that of {owner}; name it otherwise"
    if owner != "every run":  # the step alone would train CTC with a weight of 1e-4
        with pytest.raises(UserError, match=name):
            make_losses(config)


def test_the_names_that_a_step_uses_itself_are_no_columns_of_losses(own):
    own({Pass.AUDIO}, frozenset(), sorted(UNLISTED)[0])
    with pytest.raises(UserError, match=f"its column {sorted(UNLISTED)[0]} is also that of every run"):
        columns(override(CONFIG, SPEECH | {"losses.own.weight": 1.0}))


def test_a_term_that_is_none_of_the_losss_columns_is_refused(own):
    own({Pass.AUDIO}, frozenset(), "own", "full_context_ctc")
    config = override(CONFIG, SPEECH | {"losses.own.weight": 1e-4})
    assert [column.name for column in columns(config)].count("own") == 1
    with pytest.raises(UserError) as caught:
        scales_at(config, make_losses(config), 0)
    assert str(caught.value) == (
        "losses.own: it gives full_context_ctc, which is none of its columns; add Column('full_context_ctc')"
    )

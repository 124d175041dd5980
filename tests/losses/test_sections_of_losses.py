"""The section of a loss of text says so; the config's checks know nothing of it otherwise."""

from __future__ import annotations

import pytest
from pydantic import Field

from joint_st.config import LossConfig, override, register
from joint_st.config.registry import unregister
from joint_st.errors import UserError
from joint_st.losses import Column, Found, Loss, Pass, register_loss
from joint_st.losses.base import LOSSES, make_losses
from tests.training.test_step import CONFIG

SPEECH = {"data.units.kind": "characters"}
ALL = frozenset({"needs_text", "needs_units", "learns_from_text"})


@pytest.fixture
def own():
    """Register a loss with some passes, and a section with some of the properties; a function, for one test."""

    def make(passes: set[Pass], says: frozenset[str]) -> None:
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

            columns = (Column("own"),)

            @property
            def passes(self):
                return frozenset(passes)

            def scales(self, step):
                return {"own": self.section.weight}

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

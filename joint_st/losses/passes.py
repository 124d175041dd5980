"""The passes of a batch through the model that losses can ask for."""

import enum


class Pass(enum.Enum):
    """A pass of a batch's rows through the model."""

    AUDIO = "audio"
    """The utterances, with features masked by SpecAugment."""
    AUDIO_AGAIN = "audio_again"
    """The same utterances under a second masking and other dropout."""
    PAIRED_CLEAN = "paired_clean"
    """The texts of the utterances, unmasked."""
    PAIRED_MASKED = "paired_masked"
    """The texts of the utterances, with masked spans."""
    TEXT_MASKED = "text_masked"
    """Texts without audio, with masked spans."""

    @property
    def part(self) -> str:
        """The part of the batch whose rows pass."""
        return "text" if self is Pass.TEXT_MASKED else "paired"


AUDIO_PASSES = (Pass.AUDIO, Pass.AUDIO_AGAIN)
TEXT_PASSES = (Pass.PAIRED_CLEAN, Pass.PAIRED_MASKED, Pass.TEXT_MASKED)
"""Passes of texts, in the order in which each device puts their rows together."""

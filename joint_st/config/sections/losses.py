"""The losses: one section each, with weights and choices; `joint_st.losses` computes them.

The order here is the order in which losses are added up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from joint_st.config.registry import group, register
from joint_st.config.sections.base import OneOf, Section, Unused, clash
from joint_st.kinds import ALIGNMENTS
from joint_st.passes import PASSES


class LossConfig(Section):
    """Fields and methods that the sections of all losses have in common."""

    @property
    def enabled(self) -> bool:
        """Whether the loss takes part: by default, whether its field `weight` is above 0."""
        return bool(getattr(self, "weight", 0))

    @property
    def needs_units(self) -> tuple[tuple[str, float], ...]:
        """Return the fields that only have a meaning with text units: their values by their paths below the section.

        A loss with passes of text needs units, because the text encoder reads them.
        """
        return ()

    @property
    def learns_from_text(self) -> bool:
        """Whether the loss has a meaning for text without audio."""
        return False

    @property
    def needs_text(self) -> bool:
        """Whether the loss needs a pass of text through the model."""
        return self.learns_from_text

    def text_heads(self, config) -> tuple[str, ...]:
        """Return the passes whose heads the loss teaches to read text in a `Config`."""
        return ()

    def check(self, config) -> None:
        """Raise `clash` with the full path of a field where the section does not fit the rest of a `Config`."""

    def unused(self, config) -> tuple[Unused, ...]:
        """Return the fields of the section that have a value and do nothing in a `Config`."""
        return ()


@group("losses", of=LossConfig)
class LossesConfig(Section):
    """The losses of a run; each has a section of its own, and takes part where one of its weights is above 0."""

    if TYPE_CHECKING:  # the fields are the sections that register themselves

        def __getattr__(self, name: str) -> Any: ...

    @pydantic.model_validator(mode="after")
    def _some(self):
        sections = [getattr(self, name) for name in type(self).model_fields]
        if not any(section.enabled for section in sections):
            raise clash("ctc.streaming", "0, and no other loss has a weight, so there is nothing to train")
        return self

    @property
    def trains_units(self) -> bool:
        """Whether the model learns to recognise text units in speech."""
        return bool(self.unit_ctc.weight)

    @property
    def matching(self) -> ConsistencyConfig:
        """How embeddings of speech and of text are compared, in training and afterwards."""
        return self.consistency


@register("losses.ctc")
class CtcLossConfig(LossConfig):
    """CTC of the labels given the audio, on either head: the mean in nats over the labels of all utterances whose
    frames can emit them."""

    streaming: float = Field(default=0.3, ge=0)
    """Weight on the streaming head."""
    full_context: float = Field(default=0.7, ge=0)
    """Weight on the full-context head."""

    @property
    def enabled(self) -> bool:
        return bool(self.streaming or self.full_context)


@register("losses.cr_ctc")
class CrCtcConfig(LossConfig):
    """Makes the posteriors of CTC agree under two maskings of an utterance (CR-CTC, arXiv 2410.05101).

    The audio passes twice through the encoder, with separately drawn masks and dropout, and `losses.ctc` is the mean of
    both. The paper has two and a half times as many time masks (`spec_augment.time_masks`), and half as many utterances
    in a batch.
    """

    weight: float = Field(default=0.0, ge=0)
    """Weight relative to CTC's on each head, on top of the weights in `losses.ctc`; the paper's is 0.2."""

    def check(self, config):
        if self.weight and not config.losses.ctc.enabled:
            raise clash("losses.cr_ctc.weight", "needs a weight of losses.ctc above 0")


@register("losses.unit_ctc")
class UnitCtcConfig(LossConfig):
    """CTC of the text units given the audio, on the outputs of the audio encoder, in nats per unit."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the loss."""

    @property
    def needs_units(self):
        return (("weight", self.weight),)

    def check(self, config):
        conditioning = config.model.unit_conditioning
        if conditioning != "none" and not self.weight:
            raise clash("model.unit_conditioning", f"{conditioning} needs a losses.unit_ctc.weight above 0")


@register("losses.reconstruction")
class ReconstructionConfig(LossConfig):
    """Recovers the labels from masked text units, on either head, in nats per label (JOIST, arXiv 2210.07353)."""

    streaming: float = Field(default=0.0, ge=0)
    """Weight on the streaming head."""
    full_context: float = Field(default=0.0, ge=0)
    """Weight on the full-context head."""
    paired: float = Field(default=1.0, ge=0)
    """Weight of a label of paired text, relative to a label of `data.text`, which has weight 1."""

    @property
    def enabled(self) -> bool:
        return bool(self.streaming or self.full_context)

    @property
    def needs_units(self):
        return ("streaming", self.streaming), ("full_context", self.full_context)

    @property
    def learns_from_text(self):
        return self.enabled

    def text_heads(self, config):
        reads = self.paired or config.data.text_batch_size
        return tuple(name for name in PASSES if reads and getattr(self, name))

    def check(self, config):
        model = config.model
        if self.streaming and model.text_depth > model.streaming_layers:
            raise clash(
                "losses.reconstruction.streaming",
                f"{self.streaming:g}, and text at model.text_depth {model.text_depth} enters above the streaming head, which "
                f"reads the output of layer {model.streaming_layers}; set it to 0, or lower the depth",
            )

    def unused(self, config):
        if not self.enabled or self.paired or config.data.text_batch_size:
            return ()
        why = "it has a weight, and there is no text to reconstruct"
        done = "set losses.reconstruction.paired or data.text_batch_size above 0, or its weights to 0"
        return (Unused("losses.reconstruction", why, done),)


@register("losses.consistency")
class ConsistencyConfig(LossConfig):
    """Pulls the audio's and the text's embeddings of a paired utterance together (arXiv 2308.06125)."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the loss: the mean over audio frames, and over layers, of the distance to the matched text frame."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the weight rises linearly from zero, from the first step that has both speech and text; that of
    `training.text_ramp_steps`, if there is any, is another factor."""
    alignment: Annotated[str, OneOf(ALIGNMENTS)] = "skip"
    """Which text frame each audio frame is matched with. The best under the cost: `skip` (any number of text frames
    forward, the paper's), `step` (stay, or one forward), `dtw` (text frames may share an audio frame). `soft`:
    all monotonic alignments by their likelihood; `optimal_transport`: any order. `frame_wise`: a straight line;
    `given`: by the true times of words; `random`: a monotonic one drawn uniformly."""
    cost: Literal["squared_l2", "cosine", "normalized_l2"] = "squared_l2"
    """Distance of two embeddings; `normalized_l2` is the squared L2 distance after layer normalisation."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of `soft`, and the entropic regularisation of `optimal_transport`, in units of the cost."""
    gradient: Literal["both", "audio", "text"] = "both"
    """Side that the gradient of the loss reaches: the embeddings of both, of audio or of text. `audio` with `clean` texts
    costs least, since texts through which no gradient goes pass forward alone. With `model.unit_conditioning`, the audio's
    embeddings are mixtures of those of units, which the gradient then reaches through the audio."""
    layers: tuple[int, ...] = ()
    """Depths at which embeddings are compared: 0 is the input of the shared layers, `k` the output of the k-th of them,
    -1 that of the last. Empty: the output of every shared layer that both speech and text pass through
    (`model.text_depth`)."""
    text: Literal["masked", "clean"] = "clean"
    """Whether the text that is compared has masked spans; `clean` costs an extra pass."""

    @property
    def needs_units(self):
        return (("weight", self.weight),)

    @property
    def needs_text(self):
        return self.enabled

    def check(self, config):
        depth, enters = config.model.shared_layers, config.model.text_depth
        for layer in self.layers:
            if not -depth - 1 <= layer <= depth:
                raise clash(
                    "losses.consistency.layers", f"{layer} is not among the {depth} shared layers, 0 their input"
                )
            if layer % (depth + 1) < enters:
                raise clash(
                    "losses.consistency.layers",
                    f"{layer} is below model.text_depth {enters}, where text enters; name depths from {enters} to {depth}",
                )

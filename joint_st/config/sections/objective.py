"""What is learnt, and by which weights."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from joint_st.config.sections.base import Section, clash


class ConsistencyConfig(Section):
    """Pulls the audio's and the text's embeddings of a paired utterance together (arXiv 2308.06125)."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the loss: the mean over audio frames, and over layers, of the distance to the matched text frame."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the weight rises linearly from zero."""
    alignment: Literal["skip", "step", "dtw", "frame_wise", "soft", "optimal_transport", "given", "random"] = "skip"
    """Which text frame each audio frame is matched with. The best under the cost: `skip` (any number of text frames
    forward, the paper's), `step` (stay, or one forward), `dtw` (text frames may share an audio frame). `soft`:
    all monotonic alignments by their likelihood; `optimal_transport`: any order. `frame_wise`: a straight line;
    `given`: by the true times of words; `random`: a monotonic one drawn uniformly."""
    cost: Literal["squared_l2", "cosine", "normalized_l2"] = "squared_l2"
    """Distance of two embeddings; `normalized_l2` is the squared L2 distance after layer normalisation."""
    temperature: float = Field(default=1.0, gt=0)
    """Of `soft`, and the entropic regularisation of `optimal_transport`, in units of the cost."""
    gradient: Literal["both", "audio", "text"] = "both"
    """Which side is moved."""
    layers: tuple[int, ...] = ()
    """Depths at which embeddings are compared: 0 is what enters the shared layers, `k` what the k-th of them puts
    out; -1 is the last. Empty: the output of every shared layer."""
    text: Literal["masked", "clean"] = "clean"
    """Whether the text compared has its spans masked; `clean` takes a pass of its own."""


class ObjectiveConfig(Section):
    """Weights of the losses. Those of CTC are means over the labels of the utterances for which it has a meaning."""

    streaming_ctc: float = Field(default=0.3, ge=0)
    """CTC of the labels given audio, on the streaming head."""
    full_context_ctc: float = Field(default=0.7, ge=0)
    """CTC of the labels given audio, on the full-context head."""
    streaming_reconstruction: float = Field(default=0.0, ge=0)
    """CTC of the labels given masked text, on the streaming head."""
    full_context_reconstruction: float = Field(default=0.0, ge=0)
    """CTC of the labels given masked text, on the full-context head."""
    paired_reconstruction: float = Field(default=1.0, ge=0)
    """Weight of a label of paired text beside one of `data.text` in both reconstructions."""
    unit_ctc: float = Field(default=0.0, ge=0)
    """CTC of the units given audio, on what the audio encoder puts out."""
    consistency: ConsistencyConfig = ConsistencyConfig()

    @pydantic.model_validator(mode="after")
    def _some(self):
        if not self.streaming_ctc + self.full_context_ctc:
            raise clash("streaming_ctc", "0 and full_context_ctc 0 leave nothing to train")
        return self

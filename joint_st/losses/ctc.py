"""The labels given audio, on the head of either pass."""

from __future__ import annotations

from joint_st.heads.model import head_kinds
from joint_st.losses.base import Column, Found, Loss, Pass, audio_frames, not_spelled, register_loss
from joint_st.passes import PASSES

PANEL = "CTC of speech"


@register_loss("ctc")
class CtcLoss(Loss):
    """The loss of either head, in nats per label, over the utterances whose labels it can emit."""

    columns = (
        Column("streaming_ctc", PANEL, unit="nats per label"),
        Column("full_context_ctc", PANEL, unit="nats per label"),
        Column("infeasible", kind="count"),
    )

    @property
    def passes(self):
        return frozenset({Pass.AUDIO})

    def scales(self, step):
        return {f"{name}_ctc": getattr(self.section, name) for name in PASSES}

    def weights(self, batch, available):
        if Pass.AUDIO not in available:
            return {}
        paired, frames = batch["paired"], audio_frames(self.config, batch)
        lengths = paired["label_lengths"], paired["frames_needed"], frames, paired["valid"]
        return {
            f"{name}_ctc": {Pass.AUDIO: kind.weights(*lengths)} for name, kind in head_kinds(self.config.heads).items()
        }

    def values(self, passes, batch, available, key, mesh):
        if Pass.AUDIO not in available:
            return Found({})
        audio, paired = passes.audio[Pass.AUDIO], batch["paired"]
        return Found(
            {
                f"{name}_ctc": {
                    Pass.AUDIO: passes.heads[name].loss(
                        getattr(audio, name), audio.mask, paired["labels"], paired["label_lengths"], mesh
                    )
                }
                for name in PASSES
            }
        )

    def counts(self, batch, available):
        if Pass.AUDIO not in available:
            return {}
        weights = self.weights(batch, available)["streaming_ctc"][Pass.AUDIO]
        return {"infeasible": not_spelled(batch["paired"]["valid"], weights)}

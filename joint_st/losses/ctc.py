"""The loss of the labels given the audio, on the head of either pass."""

from __future__ import annotations

import functools

import jax.numpy as jnp

from joint_st.heads.model import head_kinds
from joint_st.losses.base import Column, Found, Loss, audio_frames, maskings, not_spelled, register_loss
from joint_st.losses.passes import Pass
from joint_st.passes import PASSES

PANEL = "CTC of speech"


@register_loss("ctc")
class CtcLoss(Loss):
    """The loss of either head, in nats per label, over the utterances whose labels it can emit.

    With `losses.cr_ctc`, it is the mean over two maskings of each utterance.
    """

    columns = (
        Column(
            "streaming_ctc", PANEL, unit="nats per label", description="Loss of the labels given audio, streaming head."
        ),
        Column(
            "full_context_ctc",
            PANEL,
            unit="nats per label",
            description="Loss of the labels given audio, full-context head.",
        ),
        Column(
            "infeasible",
            kind="count",
            description="Utterances without this loss on one of the heads, because they have more labels than it can "
            "emit in their frames; CTC emits one label in a frame, and a blank between two equal ones.",
        ),
    )

    @property
    def passes(self):
        return frozenset(maskings(self.config))

    def scales(self, step):
        return {f"{name}_ctc": getattr(self.section, name) for name in PASSES}

    def weights(self, batch, available):
        if Pass.AUDIO not in available:
            return {}
        paired, frames = batch["paired"], audio_frames(self.config, batch)
        lengths = paired["label_lengths"], paired["frames_needed"], frames, paired["valid"]
        return {
            f"{name}_ctc": dict.fromkeys(maskings(self.config), kind.weights(*lengths))
            for name, kind in head_kinds(self.config.heads).items()
        }

    def values(self, passes, batch, available, key, mesh):
        if Pass.AUDIO not in available:
            return Found({})
        paired = batch["paired"]
        return Found(
            {
                f"{name}_ctc": {
                    one: passes.heads[name].loss(
                        getattr(passes.audio[one], name),
                        passes.audio[one].mask,
                        paired["labels"],
                        paired["label_lengths"],
                        mesh,
                    )
                    for one in maskings(self.config)
                }
                for name in PASSES
            }
        )

    def counts(self, batch, available):
        if Pass.AUDIO not in available:
            return {}
        of_heads = [weights[Pass.AUDIO] for weights in self.weights(batch, available).values()]
        return {"infeasible": not_spelled(batch["paired"]["valid"], functools.reduce(jnp.minimum, of_heads))}

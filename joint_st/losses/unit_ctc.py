"""CTC of the text units given the audio, on the outputs of the audio encoder."""

from __future__ import annotations

import jax.numpy as jnp

from joint_st.distributed.mesh import over_batch
from joint_st.losses.base import Column, Found, Loss, audio_frames, maskings, not_spelled, register_loss
from joint_st.losses.passes import Pass
from joint_st.ops.ctc import ctc_loss, ctc_weights


@register_loss("unit_ctc")
class UnitCtcLoss(Loss):
    """CTC in nats per unit, over the utterances whose units their frames can emit.

    With `losses.cr_ctc`, it is the mean over two maskings of each utterance.
    """

    columns = (
        Column(
            "unit_ctc",
            "CTC of speech",
            unit="nats per unit",
            description="Loss of the text units given audio, on the output of the audio encoder.",
        ),
        Column(
            "infeasible_units",
            kind="count",
            description="Utterances without this loss, because they have more text units than CTC can emit in their "
            "frames. Those without text units are not counted.",
        ),
    )

    @property
    def passes(self):
        return frozenset(maskings(self.config))

    def scales(self, step):
        return {"unit_ctc": self.section.weight}

    def weights(self, batch, available):
        if Pass.AUDIO not in available:
            return {}
        paired, frames = batch["paired"], audio_frames(self.config, batch)
        weights = ctc_weights(paired["unit_lengths"], paired["unit_frames_needed"], frames, paired["valid"])
        return {"unit_ctc": dict.fromkeys(maskings(self.config), weights)}

    def values(self, passes, batch, available, key, mesh):
        if Pass.AUDIO not in available:
            return Found({})
        paired, found = batch["paired"], {}
        of_units = over_batch(ctc_loss, mesh, differentiable=True)
        for one in maskings(self.config):
            audio = passes.audio[one]
            frames = audio.mask.sum(axis=1, dtype=jnp.int32)
            value, _ = of_units(audio.units, frames, paired["units"], paired["unit_lengths"])
            found[one] = value / jnp.maximum(paired["unit_lengths"], 1)
        return Found({"unit_ctc": found})

    def counts(self, batch, available):
        if Pass.AUDIO not in available:
            return {}
        paired, weights = batch["paired"], self.weights(batch, available)["unit_ctc"][Pass.AUDIO]
        return {"infeasible_units": not_spelled(paired["valid"] & (paired["unit_lengths"] > 0), weights)}

"""Agreement of CTC's posteriors under two maskings of an utterance (CR-CTC, arXiv 2410.05101)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from joint_st.heads.model import head_kinds
from joint_st.losses.base import Column, Found, Loss, audio_frames, register_loss
from joint_st.losses.passes import Pass
from joint_st.passes import PASSES


@register_loss("cr_ctc")
class CrCtcLoss(Loss):
    """Equation 5 of the paper on either head, in nats per label, over the utterances that CTC can spell."""

    columns = tuple(
        Column(
            f"{name}_cr",
            "Agreement of two maskings",
            unit="nats per label",
            description="Divergence of the posteriors under two maskings of one utterance, "
            f"{name.replace('_', '-')} head.",
        )
        for name in PASSES
    )

    @property
    def passes(self):
        return frozenset({Pass.AUDIO, Pass.AUDIO_AGAIN})

    def scales(self, step):
        return {f"{name}_cr": self.section.weight * getattr(self.config.losses.ctc, name) for name in PASSES}

    def weights(self, batch, available):
        if not self.passes <= available:
            return {}
        paired, frames = batch["paired"], audio_frames(self.config, batch)
        lengths = paired["label_lengths"], paired["frames_needed"], frames, paired["valid"]
        return {
            f"{name}_cr": {Pass.AUDIO: kind.weights(*lengths)} for name, kind in head_kinds(self.config.heads).items()
        }

    def values(self, passes, batch, available, key, mesh):
        if not self.passes <= available:
            return Found({})
        one, other = passes.audio[Pass.AUDIO], passes.audio[Pass.AUDIO_AGAIN]
        labels = jnp.maximum(batch["paired"]["label_lengths"], 1)
        found = {}
        for name in PASSES:
            read = passes.heads[name].alignment_logits
            apart = divergence(read(getattr(one, name)), read(getattr(other, name)), one.mask)
            found[f"{name}_cr"] = {Pass.AUDIO: apart / labels}
        return Found(found)


def divergence(a: jax.Array, b: jax.Array, mask: jax.Array) -> jax.Array:
    """Return half the sum over the valid frames of both divergences between the posteriors of two logits [B, T, V],
    float32 [B].

    Each is pulled towards the other, which is held constant: `KL(sg(a) || b) + KL(sg(b) || a)`, where `sg` stops the
    gradient.
    """
    a, b = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (a, b))

    def towards(target, x):
        target = jax.lax.stop_gradient(target)
        return jnp.sum(jnp.exp(target) * (target - x), axis=-1)

    return 0.5 * jnp.sum(jnp.where(mask, towards(a, b) + towards(b, a), 0), axis=1)

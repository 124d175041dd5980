"""Reconstruction of the labels from text units with masked spans (JOIST, arXiv 2210.07353), on either head."""

from __future__ import annotations

from joint_st.heads.model import head_kinds
from joint_st.losses.base import Column, Found, Loss, Rows, not_spelled, register_loss, text_frames
from joint_st.losses.passes import TEXT_PASSES, Pass
from joint_st.losses.text_rows import split_rows
from joint_st.passes import PASSES

PANEL = "Reconstruction of text"


@register_loss("reconstruction")
class ReconstructionLoss(Loss):
    """The loss of each head that has a weight, in nats per label, over texts with audio and without."""

    columns = (
        Column(
            "streaming_reconstruction",
            PANEL,
            unit="nats per label",
            description="Loss of the labels given masked text, streaming head.",
        ),
        Column(
            "full_context_reconstruction",
            PANEL,
            unit="nats per label",
            description="Loss of the labels given masked text, full-context head.",
        ),
        Column(
            "infeasible_sentences",
            kind="count",
            description="Sentences of text without audio that have more labels than CTC can emit in their text frames "
            "(units times repetitions). They are without this loss.",
        ),
        Column(
            "infeasible_transcripts",
            kind="count",
            description="Utterances whose text is without this loss, because it has more labels than CTC can emit in its "
            "text frames. Those without text units are not counted.",
        ),
    )

    @property
    def passes(self):
        needed = set()
        if self.section.paired:
            needed.add(Pass.PAIRED_MASKED)
        if self.config.data.text_batch_size:
            needed.add(Pass.TEXT_MASKED)
        return frozenset(needed)

    def scales(self, step):
        return {f"{name}_reconstruction": getattr(self.section, name) for name in self._heads}

    def weights(self, batch, available):
        own = [one for one in TEXT_PASSES if one in self.passes & available]
        kinds = head_kinds(self.config.heads)
        found = {}
        for name in self._heads:
            found[f"{name}_reconstruction"] = {
                one: self._label_weight(one)
                * kinds[name].weights(
                    batch[one.part]["label_lengths"],
                    batch[one.part]["frames_needed"],
                    text_frames(batch, one.part),
                    batch[one.part]["valid"],
                )
                for one in own
            }
        return found

    def values(self, passes, batch, available, key, mesh):
        own = [one for one in TEXT_PASSES if one in self.passes & available]
        found: dict[str, Rows] = {f"{name}_reconstruction": {} for name in self._heads}
        if not own:
            return Found(found)
        text, rows = passes.text[own[0]]
        for name in self._heads:
            head = passes.heads[name]
            value = head.loss(getattr(text, name), text.mask, rows.labels, rows.label_lengths, mesh)
            by_pass = split_rows(rows, value, mesh)
            found[f"{name}_reconstruction"] = {one: by_pass[one] for one in own}
        return Found(found)

    def counts(self, batch, available):
        found, weights = {}, next(iter(self.weights(batch, available).values()))
        if Pass.TEXT_MASKED in weights:
            found["infeasible_sentences"] = not_spelled(batch["text"]["valid"], weights[Pass.TEXT_MASKED])
        if Pass.PAIRED_MASKED in weights:
            has_units = batch["paired"]["valid"] & (batch["paired"]["unit_lengths"] > 0)
            found["infeasible_transcripts"] = not_spelled(has_units, weights[Pass.PAIRED_MASKED])
        return found

    @property
    def _heads(self) -> tuple[str, ...]:
        return tuple(name for name in PASSES if getattr(self.section, name))

    def _label_weight(self, one: Pass) -> float:
        """Return the weight of each label of a pass."""
        return self.section.paired if one.part == "paired" else 1.0

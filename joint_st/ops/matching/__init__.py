"""Alignments between the frames of speech and of text, and the distance between the two along them.

"Improving Joint Speech-Text Representations Without Alignment" (arXiv 2308.06125) matches each audio frame with
a text frame by the cheapest monotonic alignment, and pulls the matched pairs together.

- `loss`: `align` and `alignment_loss`, the two functions for the rest of the package;
- `alignments/`: one file for each alignment; `base` says what it declares;
- `cost`: distances between embeddings.
"""

from joint_st.ops.matching.loss import Alignment, AlignmentLoss, align, alignment_kind, alignment_loss, cheapest

__all__ = ["Alignment", "AlignmentLoss", "align", "alignment_kind", "alignment_loss", "cheapest"]

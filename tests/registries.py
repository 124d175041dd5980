"""What is registered by name: sections of the configuration, and kinds of everything that has kinds."""

from __future__ import annotations

from joint_st.config import registry
from joint_st.config.sections.base import ByKind
from joint_st.data import augmentation, mixture
from joint_st.data.sources.corpus import OPENERS
from joint_st.heads.base import HEADS
from joint_st.kinds import ALIGNMENTS
from joint_st.losses.base import LOSSES
from joint_st.models.conditioning import CONDITIONINGS

KINDS = {
    "head": HEADS,
    "loss": LOSSES,
    "alignment": ALIGNMENTS,
    "conditioning": CONDITIONINGS,
    "augmentation": augmentation.KINDS,
    "mixture": mixture.KINDS,
    "source": OPENERS,
}


def names() -> set[str]:
    """Return all names, after what each of them is."""
    found = {f"section {path}" for path in registry._sections}
    for group in ByKind.__subclasses__():
        found |= {f"{group.__name__} {name}" for name in getattr(group, "registered", ())}
    for thing, kinds in KINDS.items():
        found |= {f"{thing} {name}" for name in kinds.names()}
    return found

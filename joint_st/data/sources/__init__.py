"""Sources of utterances: manifests, TFDS datasets, files of sentences.

A kind of source has a section of the configuration, and a module of this package with the kind's name, which declares
by `@opens(KIND)` what opens it.
"""

from __future__ import annotations

from joint_st.config import Source
from joint_st.data.sources.corpus import OPENERS, Concatenated, Corpus, opens, read_whole

__all__ = ["Concatenated", "Corpus", "open_source", "opens", "read_whole"]


def open_source(config: Source) -> Corpus:
    """Open the corpus that a section of the configuration names; raises `UserError` where there is none."""
    # The module of a kind is imported here, so that a run on manifests does not have to import TFDS.
    return OPENERS[config.kind](config)

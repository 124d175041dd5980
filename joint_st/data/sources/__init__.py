"""Where utterances come from: manifests, TFDS datasets, files of sentences.

A kind of source is its section of the configuration, and the module of this package that is named as the kind, which
says by `@opens(KIND)` what opens it.
"""

from __future__ import annotations

import importlib

from joint_st.config import Source
from joint_st.data.sources.corpus import OPENERS, Concatenated, Corpus, opens, read_whole

__all__ = ["Concatenated", "Corpus", "open_source", "opens", "read_whole"]


def open_source(config: Source) -> Corpus:
    """The corpus that a section of the configuration names; raises `UserError` where there is none."""
    if config.kind not in OPENERS:
        # Only now, so that a run on manifests does not pay for TFDS.
        importlib.import_module(f"{__name__}.{config.kind}")
    return OPENERS[config.kind](config)

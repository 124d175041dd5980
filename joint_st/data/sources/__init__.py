"""Where utterances come from: manifests, TFDS datasets, files of sentences."""

from __future__ import annotations

from joint_st.config import ManifestSource, Source, TextSource
from joint_st.data.sources.corpus import Concatenated, Corpus

__all__ = ["Concatenated", "Corpus", "open_source"]


def open_source(config: Source) -> Corpus:
    """The corpus that a section of the configuration names; raises `UserError` where there is none."""
    # Imported here so that a run on manifests does not pay for TFDS.
    if isinstance(config, ManifestSource):
        from joint_st.data.sources.manifest import Manifest

        return Manifest(config)
    if isinstance(config, TextSource):
        from joint_st.data.sources.text import Sentences

        return Sentences(config)
    from joint_st.data.sources.tfds import Tfds

    return Tfds(config)

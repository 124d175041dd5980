"""Our own TFDS corpora, built on first use."""

from __future__ import annotations


def built_here(name: str) -> bool:
    """Return whether this package builds the corpus of that name."""
    return name.partition(":")[0].partition("/")[0] == "spoken_grammar"


def build_if_absent(name: str, data_dir: str = "") -> None:
    """Build a corpus under `data_dir` if this package defines it and it does not exist yet; do nothing for other names.

    `name` as in TFDS: `corpus` or `corpus/config`. `data_dir` as in `joint_st.config.TfdsSource`.
    """
    _, _, config = name.partition(":")[0].partition("/")
    if built_here(name):
        from joint_st.data.corpora import spoken_grammar

        spoken_grammar.build(data_dir, config or "default")

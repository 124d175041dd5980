"""The corpus `spoken_grammar`: speech synthesised by espeak-ng, with true word times and names that are only read.

`build(data_dir)` writes it; `joint_st.data.corpora.spoken_grammar.builder` describes it.
"""

from __future__ import annotations


def build(data_dir: str = "", config: str = "default", progress: bool = True):
    """The TFDS builder, its dataset built if absent, in about a minute.

    `data_dir`: where datasets are stored; `$TFDS_DATA_DIR` or `~/tensorflow_datasets` when empty. `config`:
    `default`, or `tiny` for tests. `progress`: show a progress bar on stderr. Raises `UserError` for a config
    that there is not.
    """
    from joint_st.data.corpora.spoken_grammar import builder

    return builder.build(data_dir, config, progress)

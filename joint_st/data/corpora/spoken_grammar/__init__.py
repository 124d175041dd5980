"""The corpus `spoken_grammar`: speech by espeak-ng, with true word times and with names that occur in text alone.

`build` writes it, `builder.py` describes it.
"""

from __future__ import annotations


def build(data_dir: str = "", config: str = "default", progress: bool = True):
    """Return the TFDS builder, after building its dataset if absent, which takes about a minute.

    `data_dir`: where datasets are stored; `$TFDS_DATA_DIR` or `~/tensorflow_datasets` when empty. `config`:
    `default`, or `tiny` for tests. `progress`: show a progress bar on stderr. Raises `UserError` for an unknown config.
    """
    from joint_st.data.corpora.spoken_grammar.prepare import prepare

    return prepare(data_dir, config, progress)

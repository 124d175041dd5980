"""Files of n-gram models, in whichever form."""

from __future__ import annotations

from pathlib import Path

from joint_st.errors import UserError
from joint_st.lm.arpa import Arpa, read_arpa
from joint_st.lm.kenlm import is_kenlm, read_kenlm


def read_ngrams(path: Path) -> Arpa:
    """The model of an ARPA file, plain or gzipped, or of a trie in KenLM's binary form.

    Raises `UserError` where there is no such file, and as `read_arpa` and `read_kenlm` do.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return read_kenlm(path) if is_kenlm(path) else read_arpa(path)

"""Where alignments are written."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from joint_st import storage
from joint_st.errors import UserError
from joint_st.word_times.result import Aligned
from joint_st.word_times.writers import FORMATS


class Destination:
    """A file, a folder or standard output, for alignments in one of `FORMATS`.

    `split` names what holds many utterances; it is None for one file and its text. Raises `UserError` where the format
    needs a folder and `output` is none.
    """

    def __init__(self, form: str, output: Path | None, split: str | None = None):
        self._format = FORMATS[form]
        self._output = output = None if output == _STDOUT else output
        self._split = split
        self._folder = split is not None and not self._format.together
        if self._folder and output is None:
            raise UserError(f"--format {form} writes a file for each utterance: name a folder with --output")
        if self._folder and output.exists() and not output.is_dir():
            raise UserError(f"{output}: a file; --format {form} writes a file for each utterance, into a folder")

    @property
    def is_stdout(self) -> bool:
        """Whether it is standard output, which then takes nothing else."""
        return self._output is None

    def write(self, results: Sequence[Aligned]) -> None:
        """Writes all of them. Raises `UserError` where two would have the same file."""
        files: dict[Path, list[Aligned]] = {}
        for one in results:
            files.setdefault(self._file(one), []).append(one)
        if self._folder:
            for path, several in files.items():
                if len(several) > 1:
                    ids = " and ".join(repr(one.id) for one in several[:2])
                    raise UserError(f"{path}: the file of both {ids}; give the utterances other ids")
        for path, some in files.items():
            text = "".join(self._format.write(one) for one in some)
            if path == _STDOUT:
                sys.stdout.write(text)
            else:
                storage.write_whole(path, text)

    def _file(self, aligned: Aligned) -> Path:
        if self._output is None:
            return _STDOUT
        if not self._folder and not self._output.is_dir():
            return self._output
        name = self._split if self._split is not None and self._format.together else aligned.id
        # An id may be a path; all files are in the one folder.
        name = name.replace("/", "_").replace(os.sep, "_").lstrip(".")
        return self._output / f"{name}{self._format.suffix}"


_STDOUT = Path("-")

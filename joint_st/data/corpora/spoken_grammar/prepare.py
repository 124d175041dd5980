"""Builds the corpus if it is absent, only once, even if other processes build it or were killed while building it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pathlib
import shutil
import tempfile
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from tensorflow_datasets.core.utils import tqdm_utils

from joint_st.data.corpora.spoken_grammar.builder import SpokenGrammar
from joint_st.data.paths import refuse_bucket
from joint_st.errors import FAILING, UserError


def prepare(data_dir: str, config: str, progress: bool) -> SpokenGrammar:
    """Return the builder, after building its dataset if absent. Arguments and errors are those of
    `spoken_grammar.build`.

    Several processes may call this at once: one builds, the others wait. What a killed build left is removed.
    """
    known = [c.name for c in SpokenGrammar.BUILDER_CONFIGS]
    if config not in known:
        raise UserError(f"spoken_grammar has no config {config!r}; it has {', '.join(known)}")
    folder = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    refuse_bucket(folder)
    builder = SpokenGrammar(config=config, data_dir=folder, file_format=tfds.core.FileFormat.ARRAY_RECORD)
    if builder.data_path.exists():
        return builder
    versions = pathlib.Path(builder.data_path).parent
    versions.mkdir(parents=True, exist_ok=True)
    with open(versions / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the process ends, however it ends
        if not builder.data_path.exists():
            for left in versions.glob("incomplete.*"):
                shutil.rmtree(left)
            _build(builder, progress)
    return SpokenGrammar(config=config, data_dir=folder)


def _build(builder: SpokenGrammar, progress: bool) -> None:
    """Build with one progress bar on stderr, instead of TFDS's several bars and its messages on stdout."""
    config: Any = builder.builder_config
    name, total = builder.info.full_name, config.train + config.dev + config.test
    shown = tqdm_utils._active
    with (
        tqdm.tqdm(total=total, desc=f"building {name}", unit=" utterances", disable=not progress) as bar,
        tempfile.TemporaryDirectory(prefix="joint_st_") as nothing,
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder.bar = bar
        tfds.disable_progress_bar()
        try:
            builder.download_and_prepare(download_dir=nothing)
        except (OSError, RuntimeError) as error:
            # ArrayRecord's writer, in C++, reports it in the message of a RuntimeError.
            why = next((os.strerror(one) for one in FAILING if os.strerror(one) in str(error)), None)
            if why is None:
                raise
            raise UserError(
                f"{builder.data_path}: the corpus could not be written: {why}; name a folder with room by the source's "
                "data_dir, or by TFDS_DATA_DIR"
            ) from error
        finally:
            tfds.display_progress_bar(shown)
            builder.bar = None

"""Compiled programs kept on disk, so that a second start is quick."""

from __future__ import annotations

import os

import jax

from joint_st import storage


def keep_compiled(folder: str) -> None:
    """Keep compiled programs in `folder`, for every later process on machines of this kind; none where it is empty."""
    if not folder:
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(storage.path(os.path.expanduser(folder))))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

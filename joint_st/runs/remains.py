"""What saves and removals of checkpoints leave where they are cut short, and its removal.

The rest of a checkpoint that is removed file by file would pass for one on a disk. So it is first moved, in one step, into a
folder that is none, and what is in this folder is removed afterwards.
"""

from __future__ import annotations

from pathlib import Path

from joint_st import storage
from joint_st.runs.directory import COMPLETE

DRAFT = ".orbax-checkpoint-tmp"
"""End of the names of Orbax's temporary folders on a disk."""

REMOVED = "removed"
"""Folder on a disk into which Orbax moves the checkpoints that are to be removed."""


def remove_remains(checkpoints: Path) -> None:
    """Remove what interrupted saves and removals have left in a folder of checkpoints in which nobody else writes.

    On a disk, these are drafts, which would take the room of a checkpoint each, and what has been moved away. In a bucket,
    these are folders that are not complete, behind one that is: nobody reads them, and no save of their step will come.
    """
    if not checkpoints.is_dir():
        return
    if not storage.is_remote(checkpoints):
        for draft in checkpoints.glob(f"*{DRAFT}"):
            storage.remove_folder(draft)
        remove_moved(checkpoints)
        return
    with storage.as_user_error(checkpoints):
        folders = {int(entry.name): entry for entry in checkpoints.iterdir() if entry.name.isdecimal()}
        complete = {step for step, folder in folders.items() if (folder / COMPLETE).exists()}
        for step in sorted(folders.keys() - complete):
            if any(later > step for later in complete):
                storage.remove_folder(folders[step])


def remove_moved(checkpoints: Path) -> None:
    """Remove the checkpoints that have been moved away, on a disk."""
    if not storage.is_remote(checkpoints):
        storage.remove_folder(checkpoints / REMOVED)

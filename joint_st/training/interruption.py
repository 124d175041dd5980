"""Leaving at SIGTERM with everything saved, as clusters ask of jobs they are about to end."""

from __future__ import annotations

import signal


class Interruption:
    """A context in which SIGTERM sets `requested`, to be looked at between steps, instead of ending the process."""

    def __init__(self):
        self.requested = False

    def __enter__(self):
        self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exception):
        signal.signal(signal.SIGTERM, self._before)

    def _note(self, number, frame):
        self.requested = True


EXIT_STATUS = 128 + signal.SIGTERM
"""What a process ended by SIGTERM leaves, so that a scheduler knows the job is not done."""

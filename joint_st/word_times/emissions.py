"""Logits of a run's checkpoint for every frame of a batch: of the labels, and of text units where it has a head for
them."""

from __future__ import annotations

import jax
import numpy as np

from joint_st.decoding.windows import Windows
from joint_st.distributed.mesh import put_batch
from joint_st.heads.model import model_structure
from joint_st.models.functional import merge
from joint_st.runs.trained import Trained

WINDOW_SECONDS = 40
"""Recordings longer than this are encoded in windows of this length."""
CONTEXT_SECONDS = 5
"""Context in seconds on either side of the part of a window that is kept."""


class Emissions:
    """The logits of one head of a run and, if `units`, of its text units, for audio of any length."""

    def __init__(self, trained: Trained, head: str, units: bool):
        features = trained.config.model.features
        self._trained = trained
        self.windows = Windows.of_seconds(WINDOW_SECONDS, CONTEXT_SECONDS, features)
        structure = model_structure(trained.config, trained.symbols.sizes)

        @jax.jit
        def emit(weights, audio, audio_lengths):
            model = merge(structure, weights)
            encoded = model(audio, audio_lengths)
            found = {"labels": model.head(head).alignment_logits(getattr(encoded, head))}
            return found | ({"units": encoded.units} if units else {})

        self._emit = emit

    def __call__(self, audio: np.ndarray, lengths: np.ndarray) -> dict[str, jax.Array]:
        """Return logits [B, T, V] of audio int16 [B, S]; B divides over the mesh."""
        batch = put_batch({"audio": audio, "lengths": lengths}, self._trained.mesh)
        return self._emit(self._trained.weights, batch["audio"], batch["lengths"])

    def of_long(self, audio: np.ndarray) -> dict[str, np.ndarray]:
        """Return logits [T, V] of audio int16 [S] of any length, on the host."""
        groups = self.windows.groups(audio, self._trained.mesh.size)
        parts = [jax.device_get(self(rows, lengths)) for rows, lengths, _ in groups]
        return {name: self.windows.stitch(np.concatenate([p[name] for p in parts]), len(audio)) for name in parts[0]}

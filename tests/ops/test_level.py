"""Means over all frames so far, by the definition, in one piece and in several."""

from __future__ import annotations

import numpy as np
import pytest

from joint_st.ops.level import running_mean, start_mean


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_each_mean_is_that_of_the_frames_so_far(weight):
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    whole, _ = running_mean(x, start_mean(2, 3), weight)
    for f in range(7):
        expected = x[:, : f + 1].sum(axis=1, dtype=np.float64) / (f + 1 + weight)
        np.testing.assert_allclose(whole[:, f], expected, rtol=1e-5, atol=1e-6)
    first, state = running_mean(x[:, :3], start_mean(2, 3), weight)
    second, _ = running_mean(x[:, 3:], state, weight)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-6, atol=1e-6)

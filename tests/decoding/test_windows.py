"""Values that are computed frame by frame do not depend on windows."""

import numpy as np
import pytest

from joint_st.decoding.windows import Windows, cut_frames


@pytest.mark.parametrize("samples", [1, 10, 41, 60, 61, 100, 203, 1000])
def test_frames_with_context_are_those_of_the_whole(samples):
    """Each frame looks two frames back and two ahead, as far as the audio reaches."""
    frame = 10
    windows = Windows(size=10 * frame, context=2 * frame, samples_per_frame=frame)
    audio = np.random.default_rng(samples).integers(1, 99, samples).astype(np.int16)

    def listen(rows):
        sums = rows.reshape(len(rows), -1, frame).sum(axis=2)
        padded = np.pad(sums, ((0, 0), (2, 2)))
        return np.stack([padded[:, k : k + sums.shape[1]] for k in range(5)], axis=-1)

    count = -(-samples // frame)
    whole = listen(np.pad(audio, (0, count * frame - samples))[None])[0]
    for together in (1, 3):
        rows, lengths, begins = zip(*windows.groups(audio, together))
        assert all(x.shape == (together, 100) for x in rows) and np.concatenate(lengths).max() <= 100
        assert np.concatenate(begins).tolist() == [begin // frame for begin in windows.begins(samples)]
        np.testing.assert_array_equal(windows.stitch(listen(np.concatenate(rows)), samples), whole)


def test_frames_are_cut_out_of_every_array():
    tree = {"a": np.arange(2 * 6 * 3).reshape(2, 6, 3), "b": np.arange(12).reshape(2, 6)}
    found, mask = cut_frames(tree, np.array([1, 4]), np.array([3, 2]))
    assert mask.sum(axis=1).tolist() == [3, 2]
    for name, x in tree.items():
        np.testing.assert_array_equal(found[name][0, :3], x[0, 1:4])
        np.testing.assert_array_equal(found[name][1, :2], x[1, 4:])

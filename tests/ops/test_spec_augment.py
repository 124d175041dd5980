"""SpecAugment hides whole bands and whole spans, no wider than asked, inside each utterance."""

import jax
import jax.numpy as jnp
import numpy as np

from joint_st.ops.spec_augment import spec_augment

FRAMES, MELS = 60, 20


def hidden(count_f, width_f, count_t, share, lengths=(60, 30), seed=0):
    x = jnp.ones((len(lengths), FRAMES, MELS))
    y = spec_augment(
        x,
        jnp.array(lengths),
        jax.random.key(seed),
        frequency_masks=count_f,
        frequency_width=width_f,
        time_masks=count_t,
        time_share=share,
    )
    return np.asarray(y) == 0


def runs(flags):
    """Lengths of the runs of `True`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def test_bands_and_spans_are_whole():
    for seed in range(20):
        for one in hidden(2, 5, 2, 0.2, seed=seed):
            bands, spans = one.all(axis=0), one.all(axis=1)
            np.testing.assert_array_equal(one, bands[None, :] | spans[:, None])


def test_widths_and_counts_are_kept_to():
    widths = set()
    for seed in range(200):
        (one,) = hidden(1, 5, 0, 0.0, lengths=(60,), seed=seed)
        bands = runs(one[0])
        assert len(bands) <= 1
        widths.add(int(bands[0]) if len(bands) else 0)
    assert widths == {0, 1, 2, 3, 4, 5}


def test_spans_follow_each_utterances_length():
    longest = [0, 0]
    for seed in range(200):
        for row, one in enumerate(hidden(0, 1, 1, 0.2, seed=seed)):
            spans = runs(one[:, 0])
            longest[row] = max(longest[row], *spans, 0) if len(spans) else longest[row]
        assert not hidden(0, 1, 1, 0.2, seed=seed)[1, 30:].any(), "a span lies in the padding"
    assert longest == [12, 6]


def test_none_hides_none_and_utterances_differ():
    assert not hidden(0, 1, 0, 0.5).any()
    a, b = hidden(2, 8, 2, 0.3, lengths=(60, 60))
    assert (a != b).any()

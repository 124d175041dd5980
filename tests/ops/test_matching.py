"""Best alignments against enumeration, literal recursions, librosa, ott-jax and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chisquare

from joint_st.config import ConsistencyConfig
from joint_st.kinds import ALIGNMENTS as ALIGNMENTS_BY_NAME
from joint_st.ops.matching import align, alignment_loss, cheapest
from joint_st.ops.matching.base import PathAlignment, one_position
from tests.ops.matching_reference import (
    distances,
    dtw_distance,
    loss_and_gradient,
    monotonic_maps,
    skip_distance,
    slope,
    step_distance,
    step_maps,
    warping_paths,
)

ALIGNMENTS = ["skip", "step", "dtw", "frame_wise", "random", "given", "soft", "optimal_transport"]
REFERENCE = {"skip": skip_distance, "step": step_distance, "dtw": dtw_distance}


def tiny():
    """Return every pair of lengths up to 5, with NaN in the padding."""
    rng = np.random.default_rng(0)
    audio_lengths, text_lengths = (1 + np.indices((5, 5)).reshape(2, -1)).astype(np.int32)
    audio, text = rng.normal(size=(2, 25, 5, 3)).astype(np.float32)
    audio[np.arange(5) >= audio_lengths[:, None]] = np.nan
    text[np.arange(5) >= text_lengths[:, None]] = np.nan
    return audio, text, audio_lengths, text_lengths


def ragged(seed=0, dimensions=8):
    """Return utterances with more, less and about as much audio as text. Both sides change in similar ways, as real
    ones do."""
    rng = np.random.default_rng(seed)
    audio = rng.normal(size=(4, 40, dimensions)).cumsum(axis=1).astype(np.float32)
    text = rng.normal(size=(4, 50, dimensions)).cumsum(axis=1).astype(np.float32)
    return audio, text, np.array([40, 40, 13, 29], np.int32), np.array([50, 21, 50, 29], np.int32)


def close_and_far_from_zero():
    """Distances of 1e-5 between embeddings of squared norm 80,000, one utterance of 30 frames of each kind."""
    audio, text, *_ = ragged()
    rng = np.random.default_rng(0)
    text[0, :30] = 100 + rng.normal(size=(30, 8))
    audio[0, :30] = text[0, :30] + 1e-3 * rng.normal(size=(30, 8))
    lengths = np.array([30, 0, 0, 0], np.int32)
    return audio, text, lengths, lengths


def extras(alignment, batch):
    """Return what an alignment needs in addition to the embeddings."""
    if alignment == "random":
        return {"key": jax.random.key(0)}
    if alignment == "given":
        frames = np.arange(batch[0].shape[1])
        return {"given": np.broadcast_to(frames // 2, batch[0].shape[:2]).astype(np.int32)}
    return {}


def utterances(batch):
    """Costs [T, R] of each utterance without its padding."""
    for audio, text, frames, positions in zip(*batch):
        yield distances(audio[:frames], text[:positions])


@pytest.mark.parametrize("alignment", ["skip", "step"])
def test_equals_enumeration_of_all_maps(alignment):
    batch = tiny()
    loss, _ = loss_and_gradient(*batch, alignment=alignment)
    for b, costs in enumerate(utterances(batch)):
        frames, positions = costs.shape
        maps = step_maps(frames, positions) if alignment == "step" else monotonic_maps(frames, positions)
        sums = {m: costs[np.arange(frames), list(m)].sum() for m in maps}
        if not maps:
            assert (loss.value[b], loss.frames[b], loss.coverage[b]) == (0, 0, 0)
            continue
        best = min(sums, key=sums.get)
        assert tuple(np.asarray(loss.position[b, :frames])) == best
        np.testing.assert_allclose(loss.value[b], sums[best] / frames, rtol=1e-5)
        assert loss.frames[b] == frames
        np.testing.assert_allclose(loss.coverage[b], len(set(best)) / positions, rtol=1e-6)


def test_dtw_equals_enumeration_of_all_paths():
    batch = tiny()
    loss, _ = loss_and_gradient(*batch, alignment="dtw")
    for b, costs in enumerate(utterances(batch)):
        frames, positions = costs.shape
        best = min(warping_paths(frames, positions), key=lambda path: sum(costs[cell] for cell in path))
        np.testing.assert_allclose(loss.value[b], sum(costs[cell] for cell in best) / frames, rtol=1e-5)
        for i in range(frames):
            matched = [j for frame, j in best if frame == i]
            assert loss.position[b, i] == (matched[0] + matched[-1]) // 2
        assert loss.coverage[b] == 1


@pytest.mark.parametrize(
    "alignment, cost",
    [
        ("skip", "squared_l2"),
        ("skip", "cosine"),
        ("step", "squared_l2"),
        ("dtw", "squared_l2"),
        ("dtw", "normalized_l2"),
    ],
)
def test_equals_the_literal_recursion_and_its_finite_differences(alignment, cost):
    audio, text, audio_lengths, text_lengths = batch = ragged()
    loss, gradient = loss_and_gradient(*batch, alignment=alignment, cost=cost)
    rng = np.random.default_rng(1)
    for b, (frames, positions) in enumerate(zip(audio_lengths, text_lengths)):
        if alignment == "step" and frames < positions:
            assert (loss.value[b], loss.frames[b], np.abs(gradient[0][b]).max()) == (0, 0, 0)
            continue
        direction = rng.normal(size=(frames + positions, audio.shape[2]))
        embeddings = np.concatenate([audio[b, :frames], text[b, :positions]])

        def value(embeddings):
            costs = distances(embeddings[:frames], embeddings[frames:], cost)
            return REFERENCE[alignment](costs) / frames

        np.testing.assert_allclose(loss.value[b], value(embeddings), rtol=1e-5)
        ours = np.concatenate([gradient[0][b, :frames], gradient[1][b, :positions]])
        np.testing.assert_allclose((ours * direction).sum(), slope(value, embeddings, direction), rtol=2e-4)


@pytest.mark.slow
def test_dtw_equals_librosa():
    from librosa.sequence import dtw

    batch = ragged(seed=2)
    loss, _ = loss_and_gradient(*batch, alignment="dtw")
    for b, costs in enumerate(utterances(batch)):
        total, path = dtw(C=costs)
        np.testing.assert_allclose(loss.value[b] * len(costs), total[-1, -1], rtol=1e-5)
        for i in range(len(costs)):
            matched = path[path[:, 0] == i, 1]
            assert loss.position[b, i] == (matched.min() + matched.max()) // 2


def test_dtw_is_the_limit_of_ott_soft_dtw():
    from ott.geometry.costs import SoftDTW

    batch = ragged(seed=3)
    loss, gradient = loss_and_gradient(*batch, alignment="dtw")
    with jax.enable_x64(True):
        reference = jax.jit(jax.value_and_grad(SoftDTW(gamma=1e-4), argnums=(0, 1)))
        audio, text, frames, positions = (x[0] for x in batch)
        x, y = jnp.asarray(audio[:frames], jnp.float64), jnp.asarray(text[:positions], jnp.float64)
        total, expected = reference(x, y)
    np.testing.assert_allclose(loss.value[0] * frames, total, rtol=1e-5)
    for ours, theirs in zip(gradient, expected):
        np.testing.assert_allclose(ours[0, : len(theirs)] * frames, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("alignment", ["skip", "dtw"])
def test_align_gives_the_positions_of_the_loss(alignment):
    batch = ragged()
    found = jax.jit(lambda *batch: align(*batch, moves=alignment))(*batch)
    loss, gradient = loss_and_gradient(*batch, alignment=alignment)
    np.testing.assert_array_equal(found.position, loss.position)
    np.testing.assert_array_equal(found.feasible, loss.frames > 0)
    if alignment != "dtw":  # the gradient is that of the same positions, given: none flows through the path
        given, expected = loss_and_gradient(*batch, alignment="given", given=loss.position)
        feasible = np.asarray(found.feasible)
        np.testing.assert_allclose(given.value[feasible], loss.value[feasible], rtol=1e-6)
        for ours, theirs in zip(gradient, expected):
            np.testing.assert_allclose(ours[feasible], theirs[feasible], rtol=1e-6)


def test_frame_wise_is_a_straight_line():
    x = np.zeros((5, 6, 1), np.float32)
    lengths = np.array([6, 6, 3, 1, 0], np.int32), np.array([6, 3, 6, 5, 2], np.int32)
    found = align(x, x, *lengths, moves="frame_wise")
    expected = [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2], [0, 3, 5, 0, 0, 0], [2, 0, 0, 0, 0, 0], [0] * 6]
    np.testing.assert_array_equal(found.position, expected)
    np.testing.assert_array_equal(found.feasible, [1, 1, 1, 1, 0])


def test_random_alignments_are_uniform():
    lengths = [(4, 3), (3, 4), (1, 3), (2, 3), (6, 2), (5, 1)]
    draws = 4000
    audio_lengths, text_lengths = np.repeat(np.array(lengths, np.int32), draws, axis=0).T
    x = np.zeros((len(audio_lengths), 6, 1), np.float32)
    found = jax.jit(lambda key: align(x, x[:, :4], audio_lengths, text_lengths, moves="random", key=key))
    positions = np.asarray(found(jax.random.key(1)).position).reshape(len(lengths), draws, 6)
    for drawn, (frames, text_positions) in zip(positions, lengths):
        maps = monotonic_maps(frames, text_positions)
        kinds, counts = np.unique(drawn[:, :frames], axis=0, return_counts=True)
        assert {tuple(m) for m in kinds} == set(maps)
        assert len(maps) == 1 or chisquare(counts).pvalue > 1e-3


def test_given_positions_may_be_missing():
    audio, text, _, _ = ragged()
    given = np.zeros(audio.shape[:2], np.int32)
    given[0, :6] = [0, -1, 3, 2, 99, 7]
    lengths = np.array([5, 0, 0, 0], np.int32), np.array([20, 0, 0, 0], np.int32)
    loss, gradient = loss_and_gradient(audio, text, *lengths, alignment="given", given=given)
    pairs = [(0, 0), (2, 3), (3, 2), (4, 19)]
    costs = distances(audio[0], text[0])
    np.testing.assert_allclose(loss.value[0], np.mean([costs[pair] for pair in pairs]), rtol=1e-6)
    assert loss.frames[0] == 4
    np.testing.assert_allclose(loss.coverage[0], 4 / 20)
    assert not gradient[0][0, 1].any()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_padding_changes_nothing(alignment):
    audio, text, audio_lengths, text_lengths = batch = ragged()
    padding = [np.arange(x.shape[1]) >= n[:, None] for x, n in ((audio, audio_lengths), (text, text_lengths))]
    results = []
    for junk in (0.0, 1e30, np.nan):
        filled = [np.where(mask[..., None], np.float32(junk), x) for x, mask in zip((audio, text), padding)]
        results.append(
            loss_and_gradient(*filled, *batch[2:], alignment=alignment, temperature=2.0, **extras(alignment, batch))
        )
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)
    for gradient, mask in zip(results[0][1], padding):
        assert np.isfinite(gradient).all() and gradient.any()
        assert not np.asarray(gradient)[mask].any()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_degenerate_lengths(alignment):
    audio, text, *lengths = tiny()
    lengths = np.zeros((2, 25), np.int32)
    lengths[:, :6] = [0, 0, 3, 1, 1, 4], [0, 3, 0, 1, 4, 1]
    audio[3:6], text[3:6] = np.random.default_rng(0).normal(size=(2, 3, 5, 3))
    batch = (audio, text, *lengths)
    loss, gradient = loss_and_gradient(*batch, alignment=alignment, **extras(alignment, batch))
    feasible = np.zeros(25, bool)
    feasible[3:6] = 1, alignment != "step", 1
    np.testing.assert_array_equal(loss.frames, feasible * lengths[0])
    np.testing.assert_array_equal(loss.value > 0, feasible)
    for x in gradient:
        assert np.isfinite(x).all() and not np.asarray(x)[~feasible].any()
    np.testing.assert_allclose(loss.value[3], distances(audio[3, :1], text[3, :1])[0, 0], rtol=1e-5)
    np.testing.assert_allclose(loss.value[5], distances(audio[5, :4], text[5, :1]).mean(), rtol=1e-5)
    if alignment in ("skip", "dtw"):
        alone = distances(audio[4, :1], text[4, :4])
        np.testing.assert_allclose(loss.value[4], alone.min() if alignment == "skip" else alone.sum(), rtol=1e-5)


def test_no_frames_or_no_text_at_all():
    empty, some = np.zeros((2, 0, 3), np.float32), np.ones((2, 4, 3), np.float32)
    for alignment in ALIGNMENTS:
        for audio, text in ((empty, some), (some, empty)):
            lengths = np.full(2, audio.shape[1], np.int32), np.full(2, text.shape[1], np.int32)
            loss = alignment_loss(audio, text, *lengths, alignment=alignment, **extras(alignment, (audio,)))
            assert not loss.value.any() and not loss.frames.any() and loss.position.shape == audio.shape[:2]


@pytest.mark.parametrize("alignment", ["skip", "soft"])
def test_bfloat16_is_computed_in_float32(alignment):
    audio, text, *lengths = ragged()
    halves = audio.astype(jnp.bfloat16), text.astype(jnp.bfloat16)
    loss, gradient = loss_and_gradient(*halves, *lengths, alignment=alignment)
    expected, exact = loss_and_gradient(*(x.astype(np.float32) for x in halves), *lengths, alignment=alignment)
    jax.tree.map(np.testing.assert_array_equal, loss, expected)
    for ours, theirs in zip(gradient, exact):
        assert ours.dtype == jnp.bfloat16
        if alignment == "soft" and jax.__version_info__ >= (0, 11):
            # XLA fuses the rounding with the sum, which changes the last bit of a few of its 1,280 numbers.
            assert (ours != theirs.astype(jnp.bfloat16)).mean() < 0.01
            rounded = theirs.astype(jnp.bfloat16).astype(np.float32)
            np.testing.assert_allclose(ours.astype(np.float32), rounded, rtol=2**-7, atol=1e-8)
        else:
            np.testing.assert_array_equal(ours, theirs.astype(jnp.bfloat16))


@pytest.mark.parametrize("alignment", ["skip", "step", "dtw"])
def test_accurate_where_embeddings_are_close_and_far_from_zero(alignment):
    audio, text, *_ = batch = close_and_far_from_zero()
    loss, _ = loss_and_gradient(*batch, alignment=alignment)
    exact = REFERENCE[alignment](distances(audio[0, :30], text[0, :30])) / 30
    assert exact < 2e-5
    np.testing.assert_allclose(loss.value[0], exact, rtol=1e-6)
    x, y = audio[0, :30], text[0, :30]
    by_product = (x**2).sum(1) + (y**2).sum(1) - 2 * (x * y).sum(1)
    assert abs(by_product.mean() - exact) > 10 * exact


@pytest.mark.parametrize("alignment", ["skip", "soft"])
def test_never_holds_all_differences(alignment):
    batch, frames, positions, dimensions = 2, 40, 50, 256
    audio = jnp.zeros((batch, frames, dimensions)), jnp.full(batch, frames)
    text = jnp.zeros((batch, positions, dimensions)), jnp.full(batch, positions)

    def value(audio_x, text_x):
        return alignment_loss(audio_x, text_x, audio[1], text[1], alignment=alignment).value.sum()

    compiled = jax.jit(jax.grad(value, argnums=(0, 1))).lower(audio[0], text[0]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * batch * frames * positions * dimensions / 4


@pytest.mark.parametrize("alignment", ["skip", "dtw", "random", "soft", "optimal_transport"])
def test_runs_inside_shard_map(alignment):
    batch = ragged()
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.P("data")

    def value(*batch):
        return alignment_loss(*batch, alignment=alignment, **extras(alignment, batch))

    sharded = jax.jit(jax.shard_map(value, mesh=mesh, in_specs=(rows,) * 4, out_specs=rows))(*batch)
    expected, _ = loss_and_gradient(*batch, alignment=alignment, **extras(alignment, batch))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sharded, expected)


def test_mistakes_are_explained():
    batch = tiny()
    with pytest.raises(ValueError, match="'sideways': not one of dtw, frame_wise"):
        alignment_loss(*batch, alignment="sideways")
    with pytest.raises(ValueError, match="'l3': not one of squared_l2"):
        alignment_loss(*batch, cost="l3")
    with pytest.raises(ValueError, match="pass `key`"):
        align(*batch, moves="random")
    with pytest.raises(ValueError, match="pass `given`"):
        alignment_loss(*batch, alignment="given")


@pytest.fixture
def first_position():
    """An alignment that is no file of the package: every frame with the first text position."""

    @ALIGNMENTS_BY_NAME.register("first_position")
    class FirstPosition(PathAlignment):
        def runs(self, sides, key):
            return one_position(jnp.zeros(sides.audio.shape[:2], jnp.int32), sides)

    yield "first_position"
    ALIGNMENTS_BY_NAME.forget("first_position")


def test_an_alignment_of_ones_own(first_position):
    """It has values and gradients, and is a value of the config, once it is registered."""
    audio, text, *lengths = batch = ragged()
    loss, (gradient, _) = loss_and_gradient(*batch, alignment=first_position)
    expected = np.square(audio - text[:, :1]).sum(-1)
    for row, frames in enumerate(lengths[0]):
        if frames and lengths[1][row]:
            np.testing.assert_allclose(loss.value[row], expected[row, :frames].mean(), rtol=1e-5)
    assert np.any(gradient)
    assert not align(audio, text, *lengths, moves=first_position).position.any()
    assert ConsistencyConfig(alignment=first_position).alignment == first_position
    assert cheapest(first_position) == "skip" and cheapest("dtw") == "dtw"
    with pytest.raises(ValidationError, match="should be 'dtw', 'first_position'"):
        ConsistencyConfig(alignment="last_position")


def test_alignments_are_the_files_of_their_folder():
    assert ALIGNMENTS_BY_NAME.names() == sorted(ALIGNMENTS)

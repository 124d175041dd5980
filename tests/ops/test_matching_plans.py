"""Soft alignment against the Gibbs distribution in float64, optimal transport against ott-jax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from joint_st.ops.matching.alignments.optimal_transport import transport_plan
from joint_st.ops.matching.alignments.soft import soft_plan
from tests.ops.matching_reference import distances, loss_and_gradient, monotonic_maps, slope, soft_minimum
from tests.ops.test_matching import close_and_far_from_zero, ragged, tiny, utterances


@pytest.mark.parametrize("temperature", [0.3, 5.0])
def test_soft_equals_enumeration_of_the_gibbs_distribution(temperature):
    batch = tiny()
    loss, _ = loss_and_gradient(*batch, alignment="soft", temperature=temperature)
    for b, costs in enumerate(utterances(batch)):
        frames, positions = costs.shape
        sums = np.array([costs[np.arange(frames), list(m)].sum() for m in monotonic_maps(frames, positions)])
        likelihood = np.exp((sums.min() - sums) / temperature)
        expected = (likelihood @ sums) / likelihood.sum() / frames
        np.testing.assert_allclose(loss.value[b], expected, rtol=2e-5)


@pytest.mark.parametrize("cost, temperature", [("squared_l2", 3.0), ("squared_l2", 0.3), ("cosine", 0.01)])
def test_soft_gradient_is_that_of_the_soft_minimum(cost, temperature):
    audio, text, audio_lengths, text_lengths = batch = ragged()
    _, gradient = loss_and_gradient(*batch, alignment="soft", cost=cost, temperature=temperature)
    rng = np.random.default_rng(1)
    for b, (frames, positions) in enumerate(zip(audio_lengths, text_lengths)):

        def value(embeddings):
            return soft_minimum(distances(embeddings[:frames], embeddings[frames:], cost), temperature) / frames

        embeddings = np.concatenate([audio[b, :frames], text[b, :positions]])
        direction = rng.normal(size=embeddings.shape)
        ours = np.concatenate([gradient[0][b, :frames], gradient[1][b, :positions]])
        np.testing.assert_allclose((ours * direction).sum(), slope(value, embeddings, direction), rtol=1e-3)


def test_soft_tends_to_skip():
    batch = ragged()
    hard, hard_gradient = loss_and_gradient(*batch, alignment="skip")
    gaps = []
    for temperature in (10.0, 1.0, 1e-3):
        soft, gradient = loss_and_gradient(*batch, alignment="soft", temperature=temperature)
        assert (soft.value >= hard.value * (1 - 1e-6)).all()
        gaps.append(float((soft.value - hard.value).max()))
    assert gaps[0] > 10 * gaps[2] and gaps[0] > gaps[1] >= gaps[2]
    np.testing.assert_allclose(soft.value, hard.value, rtol=1e-5)
    np.testing.assert_array_equal(soft.position, hard.position)
    for ours, theirs in zip(gradient, hard_gradient):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_soft_posteriors_of_a_long_utterance():
    """They are those of float64, although the costs of a path add up to 10⁵ temperatures."""
    rng = np.random.default_rng(0)
    frames, positions = 300, 200
    costs = rng.gamma(4.0, 100.0, (1, frames, positions)).astype(np.float32)
    lengths = np.array([frames]), np.array([positions])
    plan = jax.jit(soft_plan)(costs, *lengths, 1.0)[0]

    x = -costs[0].astype(np.float64)
    ahead, behind = np.full((2, frames, positions), -np.inf)
    ahead[0, 0], behind[-1, -1] = x[0, 0], 0
    for i in range(1, frames):
        ahead[i] = np.logaddexp.accumulate(ahead[i - 1]) + x[i]
        behind[-i - 1] = np.logaddexp.accumulate((behind[-i] + x[-i])[::-1])[::-1]
    exact = np.exp(ahead + behind - ahead[-1, -1])

    np.testing.assert_allclose(plan, exact, atol=2e-3)
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("alignment, temperature", [("soft", 1e-6), ("optimal_transport", 1e-3)])
def test_accurate_where_embeddings_are_close_and_far_from_zero(alignment, temperature):
    audio, text, *_ = batch = close_and_far_from_zero()
    loss, gradient = loss_and_gradient(*batch, alignment=alignment, temperature=temperature)
    difference = audio[0, :30].astype(np.float64) - text[0, :30]
    np.testing.assert_allclose(loss.value[0], (difference**2).sum() / 30, rtol=1e-5)
    np.testing.assert_allclose(gradient[0][0, :30], 2 * difference / 30, atol=1e-3 * np.abs(2 * difference / 30).max())


@pytest.mark.parametrize("temperature", [2.0, 20.0])
def test_optimal_transport_equals_ott(temperature):
    from ott.geometry.geometry import Geometry
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    @jax.jit
    def by_ott(costs, audio_weights, text_weights):
        geometry = Geometry(cost_matrix=costs, epsilon=temperature, relative_epsilon=None)
        solver = Sinkhorn(threshold=1e-6, max_iterations=20_000)
        return solver(LinearProblem(geometry, a=audio_weights, b=text_weights)).matrix

    audio, text, audio_lengths, text_lengths = batch = ragged()
    loss, gradient = loss_and_gradient(*batch, alignment="optimal_transport", temperature=temperature)
    for b, costs in enumerate(utterances(batch)):
        frames, positions = costs.shape
        padded = np.zeros((audio.shape[1], text.shape[1]))
        padded[:frames, :positions] = costs
        with jax.enable_x64(True):
            weights = (np.arange(n) < m for n, m in zip(padded.shape, costs.shape))
            plan = np.asarray(by_ott(jnp.asarray(padded), *(w / w.sum() for w in weights)))[:frames, :positions]
        np.testing.assert_allclose(loss.value[b], (plan * costs).sum(), rtol=1e-3)
        differences = audio[b, :frames, None].astype(np.float64) - text[b, None, :positions]
        expected = np.einsum("tr,trd->td", 2 * plan, differences)
        np.testing.assert_allclose(gradient[0][b, :frames], expected, atol=5e-3 * np.abs(expected).max())
        np.testing.assert_array_equal(loss.position[b, :frames], plan.argmax(axis=1))


def test_transport_plan_has_its_marginals():
    audio, text, audio_lengths, text_lengths = ragged()
    costs = np.stack([distances(a, t) for a, t in zip(audio, text)]).astype(np.float32)
    masks = np.arange(40) < audio_lengths[:, None], np.arange(50) < text_lengths[:, None]
    plan = np.asarray(jax.jit(transport_plan)(costs, *masks, 5.0))
    np.testing.assert_allclose(plan.sum(axis=2), masks[0], atol=1e-5)
    expected = masks[1] * (audio_lengths / text_lengths)[:, None]
    np.testing.assert_allclose(plan.sum(axis=1), expected, atol=2e-2)
    assert not plan[~(masks[0][:, :, None] & masks[1][:, None, :])].any()

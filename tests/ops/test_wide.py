"""Numbers with an exponent of their own, against logarithms in float64, and the two orders of the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from joint_st.ops import wide
from joint_st.ops.ctc import ctc_loss
from joint_st.ops.matching.alignments.soft import soft_plan
from joint_st.ops.wide import BLOCK, Wide

RANDOM = np.random.default_rng(0)
LOGS = np.concatenate([[0.0, -1e-7, -0.69314718, -87.5, -1e4, -1e6], -RANDOM.exponential(30, 58)]).astype(np.float32)


def logs(x: Wide) -> np.ndarray:
    """Return natural logarithms in float64."""
    return np.log(np.asarray(x.mantissa, np.float64)) + np.asarray(x.exponent, np.float64) * np.log(2)


def test_a_number_is_the_exponential_of_its_logarithm():
    found = wide.from_log(LOGS)
    # float32 itself resolves a logarithm no better.
    np.testing.assert_allclose(logs(found), LOGS.astype(np.float64), rtol=2e-7, atol=2e-7)
    assert ((found.mantissa >= 0.5) & (found.mantissa <= 1)).all()
    np.testing.assert_allclose(wide.to_log(found), LOGS, rtol=2e-7, atol=2e-7)
    impossible = wide.from_log(np.float32([-1e30, -np.inf]))
    assert (impossible.exponent <= wide.LOWEST_FACTOR + 1).all()


def test_sums_products_and_shares():
    a, b = wide.from_log(LOGS), wide.from_log(LOGS[::-1])
    np.testing.assert_allclose(logs(wide.multiply(a, b)), logs(a) + logs(b), rtol=1e-7, atol=1e-7)
    both = wide.add(a, b)
    np.testing.assert_allclose(logs(both), np.logaddexp(logs(a), logs(b)), rtol=1e-7, atol=1e-7)
    once = wide.normalised(both)
    assert ((once.mantissa >= 1) & (once.mantissa < 2)).all()
    np.testing.assert_allclose(logs(once), logs(both), rtol=1e-12)
    np.testing.assert_allclose(wide.share(a, once), np.exp(logs(a) - logs(both)), rtol=1e-6, atol=1e-37)
    rows = Wide(*(x.reshape(8, 8) for x in a))
    expected = np.logaddexp.reduce(logs(a).reshape(8, 8), axis=1)
    np.testing.assert_allclose(logs(wide.total(rows))[:, 0], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("log_prob", [0.0, -0.1, -200.0])
def test_no_mantissa_leaves_its_range_within_a_block(log_prob):
    """Each step adds three numbers at most, and multiplies by a factor: here the largest and the smallest mantissas."""

    def step(scores, factor):
        return wide.multiply(wide.add(wide.add(scores, scores), scores), factor), None

    start, factor = wide.from_log(np.float32([0.0])), wide.from_log(np.full((BLOCK, 1), log_prob, np.float32))
    found, _ = lax.scan(step, wide.normalised(start), factor)
    np.testing.assert_allclose(logs(found), BLOCK * (np.log(3) + log_prob), rtol=1e-6)
    alone, _ = lax.scan(lambda scores, factor: (wide.multiply(scores, factor), None), wide.normalised(start), factor)
    assert 2.0**-BLOCK <= float(alone.mantissa[0]) and float(found.mantissa[0]) <= 3.0**BLOCK
    np.testing.assert_allclose(logs(alone), BLOCK * log_prob, rtol=1e-6, atol=1e-6)


def test_both_orders_of_the_way_back_agree(monkeypatch):
    """What accelerators compute, all blocks at once, is what a CPU computes block by block."""
    logits = RANDOM.normal(0, 3, (3, 2 * BLOCK + 5, 6)).astype(np.float32)
    labels, lengths = RANDOM.integers(1, 6, (3, 9)), (np.array([37, 20, 30]), np.array([9, 4, 1]))
    costs = RANDOM.exponential(5, (2, BLOCK + 3, 7)).astype(np.float32)

    def both():
        # A function of its own each time, so that nothing is found in the cache.
        def loss(logits):
            return ctc_loss(logits, lengths[0], labels, lengths[1])[0].sum()

        plan = jax.jit(lambda costs: soft_plan(costs, jnp.array([19, 12]), jnp.array([7, 5]), 1.0))
        return jax.jit(jax.grad(loss))(logits), plan(costs)

    expected = both()
    monkeypatch.setattr(wide.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))
    for found, one in zip(both(), expected):
        np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6)

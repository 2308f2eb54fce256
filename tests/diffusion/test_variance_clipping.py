"""Clipping of the variance fraction in the hybrid loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion import losses, variance
from unclip_jax.diffusion.forward_process import posterior, q_sample
from unclip_jax.diffusion.schedule import cosine

SCHEDULE = cosine(100)
T = np.array([0, 1, 10, 50, 99])


def example():
    """Returns a prediction of x0 and the keyword arguments of `hybrid` for rows at the steps T."""
    x0, noise, guess = jax.random.normal(jax.random.key(0), (3, len(T), 4, 4, 3))
    x0 = jnp.clip(jnp.round(0.5 * x0 * 127.5) / 127.5, -1.0, 1.0)
    return guess, dict(x0=x0, x_t=q_sample(SCHEDULE, x0, T, noise), t=T, noise=noise)


@jax.jit
@jax.value_and_grad
def total(v, x0_guess, given):
    """Sums `hybrid` over the rows for a network that predicts x0; also returns the gradient with respect to v."""
    output = jnp.concatenate([x0_guess, v], axis=-1)
    return losses.hybrid(SCHEDULE, output, **given, predicts="x0").sum()


def test_hybrid_keeps_fractions_inside_the_range():
    """Compares with the unclipped formula, with v from -3 to 3 inclusive."""
    x0_guess, given = example()
    v = jnp.resize(jnp.linspace(-3.0, 3.0, 49), x0_guess.shape)

    @jax.jit
    @jax.value_and_grad
    def unclipped(v):
        mean, _ = posterior(SCHEDULE, x0_guess, given["x_t"], T, T - 1)
        log_variance = variance.learned_range(SCHEDULE, (v + 1) / 2, T, T - 1)
        bound = losses.variational_bound(
            SCHEDULE, mean, log_variance, x0=given["x0"], x_t=given["x_t"], t=T, t_next=T - 1
        )
        return jnp.sum(losses.simple(x0_guess, given["x0"]) + 0.001 * 100 * bound)

    (value, gradient), (expected, expected_gradient) = total(v, x0_guess, given), unclipped(v)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6, atol=1e-6 * np.max(np.abs(expected_gradient)))
    assert np.min(np.max(np.abs(expected_gradient), axis=(1, 2, 3))) > 0


@pytest.mark.parametrize("size", [3.001, 300.0, 1e6])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("guess", [0.0, 1.0], ids=["perfect", "wrong"])
def test_hybrid_clips_fractions_outside_the_range_and_pulls_them_back(sign, size, guess):
    """Includes a case in which the slope of the bound points outward: a wrong mean at the upper limit.

    The gradient of the pull term is 0.001 T bits per dimension and unit of fraction. One unit of fraction is two of v.
    """
    _, given = example()
    x0_guess, v = given["x0"] + guess, jnp.full(given["x0"].shape, sign * size)
    value, gradient = total(v, x0_guess, given)
    at_the_limit, _ = total(jnp.full_like(v, sign * 3.0), x0_guess, given)
    np.testing.assert_allclose(value, at_the_limit, rtol=1e-6)
    np.testing.assert_allclose(gradient, sign * 0.001 * 100 / 2 / 48, rtol=1e-5)


def test_clipped_fraction_counts_values_outside_the_range():
    v = jnp.array([[[-3.0, 3.0]], [[-3.1, 0.0]], [[300.0, -300.0]]])  # fractions -1 and 2 are inside
    output = jnp.concatenate([jnp.zeros_like(v), v], axis=-1)
    np.testing.assert_array_equal(losses.clipped_fraction(output, 2), [0.0, 0.5, 1.0])

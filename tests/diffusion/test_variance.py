import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion import variance
from unclip_jax.diffusion.prediction import Prediction


def pair64(t, t_next):
    """Returns beta and posterior variance of a step of the cosine schedule in float64."""
    i = np.arange(1001) / 1000
    curve = np.cos((i + 0.008) / 1.008 * np.pi / 2) ** 2
    a = np.append(np.cumprod(np.maximum(curve[1:] / curve[:-1], 0.001)), 1.0)
    beta = 1 - a[t] / a[t_next]
    return beta, beta * (1 - a[t_next]) / (1 - a[t])


@pytest.mark.parametrize("t, t_next", [(999, 998), (999, 957), (500, 458), (42, 0), (1, 0)])
def test_learned_range_interpolates_between_posterior_variance_and_beta(schedule, t, t_next):
    beta, small = pair64(t, t_next)
    fraction = jnp.array([[0.0, 1.0, 0.25, 1.5]])
    expected = np.log(small) + np.array([0.0, 1.0, 0.25, 1.5]) * (np.log(beta) - np.log(small))
    np.testing.assert_allclose(variance.learned_range(schedule, fraction, t, t_next)[0], expected, atol=2e-4)


def test_learned_range_of_the_last_step_uses_the_previous_posterior_variance(schedule):
    actual = variance.learned_range(schedule, jnp.array([[0.0, 1.0]]), 0, -1)[0]
    np.testing.assert_allclose(actual, [np.log(pair64(1, 0)[1]), np.log(pair64(0, -1)[0])], rtol=1e-5)


@pytest.mark.parametrize("t, t_next", [(999, 957), (500, 458), (1, 0)])
def test_fixed_large_is_beta_of_the_step(schedule, t, t_next):
    beta, small = pair64(t, t_next)
    np.testing.assert_allclose(variance.fixed_large(schedule, t, t_next), np.log(beta), rtol=2e-5, atol=1e-7)


def test_fixed_large_of_the_last_step_equals_fixed_small(schedule):
    np.testing.assert_allclose(variance.fixed_large(schedule, 0, -1), np.log(pair64(1, 0)[1]), rtol=1e-5)


def test_fixed_small_depends_on_the_length_of_the_step(schedule):
    long = np.exp(0.5 * variance.fixed_small(schedule, 500, 458))
    short = np.exp(0.5 * variance.fixed_small(schedule, 500, 499))
    assert 5.5 < long / short < 7.0  # slightly less than sqrt(42)


def test_log_variance_shapes_and_errors(schedule):
    x = jnp.ones((2, 3, 3, 1))
    prediction = Prediction(x0=x, eps=x, variance_fraction=0.5 * x)
    t, t_next = jnp.array([9, 8]), jnp.array([7, 6])
    assert variance.log_variance("fixed_small", schedule, prediction, t, t_next).shape == (2, 1, 1, 1)
    assert variance.log_variance("fixed_large", schedule, prediction, t, t_next).shape == (2, 1, 1, 1)
    assert variance.log_variance("learned_range", schedule, prediction, t, t_next).shape == (2, 3, 3, 1)
    with pytest.raises(
        ValueError, match="variance must be one of fixed_small, fixed_large, learned_range, got 'large'"
    ):
        variance.log_variance("large", schedule, prediction, t, t_next)
    with pytest.raises(ValueError, match="'learned_range' requires a network that predicts the variance"):
        variance.log_variance("learned_range", schedule, Prediction(x0=x, eps=x), t, t_next)

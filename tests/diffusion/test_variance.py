import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion import variance
from unclip_jax.diffusion.prediction import Prediction


def pair64(t, t_next):
    """(beta, posterior variance) of a step of the cosine schedule, in float64."""
    i = np.arange(1001) / 1000
    curve = np.cos((i + 0.008) / 1.008 * np.pi / 2) ** 2
    a = np.append(np.cumprod(np.maximum(curve[1:] / curve[:-1], 0.001)), 1.0)
    beta = 1 - a[t] / a[t_next]
    return beta, beta * (1 - a[t_next]) / (1 - a[t])


@pytest.mark.parametrize("t, t_next", [(999, 998), (999, 957), (500, 458), (42, 0), (1, 0)])
def test_learned_range_lies_between_beta_and_the_posterior_variance(schedule, t, t_next):
    beta, small = pair64(t, t_next)
    fraction = jnp.array([[0.0, 1.0, 0.25, 1.5]])
    expected = np.log(small) + np.array([0.0, 1.0, 0.25, 1.5]) * (np.log(beta) - np.log(small))
    np.testing.assert_allclose(variance.learned_range(schedule, fraction, t, t_next)[0], expected, atol=2e-4)


def test_learned_range_to_clean_lies_between_beta_and_the_second_steps_variance(schedule):
    answer = variance.learned_range(schedule, jnp.array([[0.0, 1.0]]), 0, -1)[0]
    np.testing.assert_allclose(answer, [np.log(pair64(1, 0)[1]), np.log(pair64(0, -1)[0])], rtol=1e-5)


@pytest.mark.parametrize("t, t_next", [(999, 957), (500, 458), (1, 0)])
def test_fixed_large_is_the_beta_of_the_step(schedule, t, t_next):
    beta, small = pair64(t, t_next)
    np.testing.assert_allclose(variance.fixed_large(schedule, t, t_next), np.log(beta), rtol=2e-5, atol=1e-7)


def test_fixed_large_to_clean_is_the_second_steps_small_variance(schedule):
    np.testing.assert_allclose(variance.fixed_large(schedule, 0, -1), np.log(pair64(1, 0)[1]), rtol=1e-5)


def test_a_long_step_has_its_own_variance_and_not_the_training_schedules(schedule):
    long = np.exp(0.5 * variance.fixed_small(schedule, 500, 458))
    short = np.exp(0.5 * variance.fixed_small(schedule, 500, 499))
    assert 5.5 < long / short < 7.0  # sqrt(42), and a little less


def test_variances(schedule):
    x = jnp.ones((2, 3, 3, 1))
    prediction = Prediction(x0=x, eps=x, variance_fraction=0.5 * x)
    t, t_next = jnp.array([9, 8]), jnp.array([7, 6])
    assert variance.log_variance("fixed_small", schedule, prediction, t, t_next).shape == (2, 1, 1, 1)
    assert variance.log_variance("fixed_large", schedule, prediction, t, t_next).shape == (2, 1, 1, 1)
    assert variance.log_variance("learned_range", schedule, prediction, t, t_next).shape == (2, 3, 3, 1)
    with pytest.raises(ValueError, match="variance is 'large': the known ones are fixed_small, fixed_large, "):
        variance.log_variance("large", schedule, prediction, t, t_next)
    with pytest.raises(ValueError, match="'learned_range', but the network predicts none"):
        variance.log_variance("learned_range", schedule, Prediction(x0=x, eps=x), t, t_next)

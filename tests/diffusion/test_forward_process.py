import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion import forward_process
from unclip_jax.diffusion.schedule import cosine, linear

ROW = (2, 3)
posterior, q_sample = jax.jit(forward_process.posterior), jax.jit(forward_process.q_sample)


def alpha_bars64(num_steps=1000):
    i = np.arange(num_steps + 1) / num_steps
    curve = np.cos((i + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.append(np.cumprod(np.maximum(curve[1:] / curve[:-1], 0.001)), 1.0)  # entry -1 is clean


def test_q_sample_equals_its_formula(schedule):
    a = alpha_bars64()
    t = np.array([0, 10, 500, 999])
    x0, noise = np.full((4, 2, 2), 0.7, np.float32), np.full((4, 2, 2), -1.3, np.float32)
    expected = np.sqrt(a[t]) * 0.7 - np.sqrt(1 - a[t]) * 1.3
    np.testing.assert_allclose(q_sample(schedule, x0, t, noise)[:, 1, 0], expected, rtol=2e-6)
    np.testing.assert_allclose(q_sample(schedule, x0, 500, noise)[2], expected[2], rtol=2e-6)


def test_q_sample_keeps_unit_variance(schedule):
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 20_000))
    x_t = q_sample(schedule, x0, jnp.array([5, 400, 990]), noise)
    np.testing.assert_allclose(jnp.var(x_t, axis=1), 1.0, atol=0.04)  # four standard deviations of sqrt(2 / 20000)


@pytest.mark.parametrize("t, t_next", [(1, 0), (40, 39), (500, 499), (999, 998), (999, 957), (500, 250), (208, 166)])
def test_posterior_satisfies_bayes_rule(schedule, t, t_next):
    """Integrates q(x_t | x_next) q(x_next | x_0) over x_next numerically."""
    a = alpha_bars64()
    alpha = a[t] / a[t_next]
    x0 = 0.4
    x_t = np.sqrt(a[t]) * x0 - 1.1 * np.sqrt(1 - a[t])
    center, width = np.sqrt(a[t_next]) * x0, np.sqrt(1 - a[t_next])
    x = np.linspace(center - 12 * width, center + 12 * width, 200_001)
    log_density = -((x_t - np.sqrt(alpha) * x) ** 2) / (2 * (1 - alpha)) - (x - center) ** 2 / (2 * width**2)
    weight = np.exp(log_density - log_density.max())
    expected_mean = np.sum(weight * x) / np.sum(weight)
    expected_variance = np.sum(weight * (x - expected_mean) ** 2) / np.sum(weight)
    mean, log_variance = posterior(schedule, jnp.full((1, 1), x0), jnp.full((1, 1), x_t), t, t_next)
    # beta is accurate to four or five digits in the middle of the schedule.
    np.testing.assert_allclose(mean[0, 0], expected_mean, atol=2e-5)
    np.testing.assert_allclose(log_variance[0, 0], np.log(expected_variance), atol=1e-4)


def test_posterior_of_the_last_step_has_x0_as_mean_and_the_previous_variance(schedule):
    x0, x_t = jax.random.normal(jax.random.key(1), (2, 3, *ROW))
    a = alpha_bars64()
    second = np.log((1 - a[1] / a[0]) * (1 - a[0]) / (1 - a[1]))
    for t in (0, 400, 999):
        mean, log_variance = posterior(schedule, x0, x_t, t, -1)
        np.testing.assert_allclose(mean, x0, rtol=1e-6)
        np.testing.assert_allclose(log_variance, second, rtol=1e-5)


def test_posterior_accepts_a_different_step_per_row():
    s = linear(50)
    x0, x_t = jax.random.normal(jax.random.key(2), (2, 3, *ROW))
    t, t_next = jnp.array([49, 7, 0]), jnp.array([30, 6, -1])
    mean, log_variance = posterior(s, x0, x_t, t, t_next)
    assert log_variance.shape == (3, 1, 1)
    for row in range(3):
        one, one_log = posterior(s, x0[row : row + 1], x_t[row : row + 1], t[row], t_next[row])
        np.testing.assert_allclose(mean[row], one[0], rtol=1e-6)
        np.testing.assert_allclose(log_variance[row], one_log[0], rtol=1e-6)
    assert not np.allclose(log_variance[0], log_variance[1])


def test_posterior_of_the_noisiest_step_is_finite():
    mean, log_variance = posterior(cosine(1000), jnp.ones((1, 1)), jnp.ones((1, 1)), 999, 998)
    assert np.isfinite(mean).all() and np.isfinite(log_variance).all()

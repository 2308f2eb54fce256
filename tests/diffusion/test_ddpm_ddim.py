"""Specific properties of the ancestral sampler and DDIM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.samplers.sampler import initial, row_noise, sample
from unclip_jax.diffusion.schedule import linear
from unclip_jax.diffusion.timesteps import even_path, padded_path

SHAPE = (4, 4, 1)
TRACES = []


def network(x, t):
    t = t.astype(jnp.float32)[:, None, None, None] / 1000
    return jnp.tanh(0.8 * x + jnp.sin(5 * t))


@jax.jit
def draw(sampler, path, keys):
    TRACES.append(1)
    noise = row_noise(keys, SHAPE)
    denoiser = denoiser_from_network(network, schedule=sampler.schedule, predicts="x0")
    return sample(sampler, denoiser, initial(sampler, noise, path[0]), path, noise).x


def run(sampler, steps, seed=0):
    return draw(sampler, padded_path(even_path(steps), 1000), jax.random.split(jax.random.key(seed), 2))


@pytest.mark.parametrize("steps", [1000, 10])
def test_ddim_with_eta_one_equals_ddpm_with_fixed_small_variance(schedule, steps):
    ancestral, ddim = run(Ancestral(schedule), steps), run(DDIM(schedule, 1.0), steps)
    np.testing.assert_allclose(ddim, ancestral, atol=2e-4)
    assert np.max(np.abs(run(DDIM(schedule, 0.9), steps) - ancestral)) > 2e-3


def test_ddim_step_equals_its_formula():
    """Computes one step in float64 (Song et al. 2020, Eq. 12 and 16)."""
    schedule = linear(1000)
    a = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    t, t_next, eta, x_t, eps, z = 600, 400, 0.7, 0.8, -0.4, 1.5
    sigma = eta * np.sqrt((1 - a[t_next]) / (1 - a[t])) * np.sqrt(1 - a[t] / a[t_next])
    x0 = (x_t - np.sqrt(1 - a[t]) * eps) / np.sqrt(a[t])
    expected = np.sqrt(a[t_next]) * x0 + np.sqrt(1 - a[t_next] - sigma**2) * eps + sigma * z
    denoiser = denoiser_from_network(lambda x, t: jnp.full_like(x, eps), schedule=schedule, predicts="eps")
    sampler = DDIM(schedule, eta)
    state = sampler.init(jnp.full((1, 1), x_t))
    actual = sampler.step(denoiser, state, t, t_next, lambda *_: jnp.full((1, 1), z))
    np.testing.assert_allclose(actual.x, expected, rtol=1e-5)


def test_ddim_with_eta_zero_is_deterministic(schedule):
    sampler, denoiser = DDIM(schedule), denoiser_from_network(network, schedule=schedule, predicts="x0")
    x = jnp.ones((2, *SHAPE))
    one, other = (sampler.step(denoiser, sampler.init(x), 600, 500, lambda *_, z=z: z * x).x for z in (0.0, 1.0))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_inverts_along_an_ascending_path(schedule, gaussian_oracle, eta):
    """For Gaussian data the ODE preserves (x_t - mean_t) / deviation_t, so x_T is known. The path back recovers x_0."""
    mean, deviation = 0.3, 0.5
    denoiser = gaussian_oracle(schedule, jnp.arange(-1, 999), mean, deviation)
    up = np.arange(1000)
    x0 = jnp.linspace(-0.7, 1.3, 5)[:, None]

    @jax.jit
    def go(sampler, state, path):
        return sample(sampler, denoiser, state, path, lambda *_: jnp.ones_like(x0))

    inverted = go(DDIM(schedule, eta), DDIM(schedule).init(x0), up)
    np.testing.assert_allclose(inverted.x, (x0 - mean) / deviation, atol=0.02)
    np.testing.assert_allclose(go(DDIM(schedule, 0.0), inverted, up[::-1].copy()).x, x0, atol=5e-3)


def test_ddim_gradient_shifts_the_data_exactly(schedule, law):
    path, sampler = even_path(40), DDIM(schedule)
    np.testing.assert_allclose(law(sampler, path, 0.3, 0.5, shift=0.4), law(sampler, path, 0.7, 0.5), atol=2e-5)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_ancestral_gradient_shifts_the_data(schedule, law, variance):
    # Sigma * gradient is the shift to first order in the step length.
    mean, _ = law(Ancestral(schedule, variance), even_path(1000), 0.3, 0.5, shift=0.4)
    assert abs(mean - 0.7) < 0.01


def test_ancestral_gradient_is_weighted_by_the_variance_of_the_step(schedule):
    x = jnp.full((1, 2), 0.5)
    gradient = jnp.array([[0.0, 2.0]])

    def denoiser(x_t, t):
        return Prediction(x0=0.2 * x_t, eps=x_t, variance_fraction=jnp.full_like(x_t, 0.5), gradient=gradient)

    i = np.arange(1001) / 1000
    curve = np.cos((i + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = (
        1 - curve[501] / curve[401]
    )  # the betas of these steps are not clipped, so alpha_bar is the curve divided by its first value
    small = beta * (1 - curve[401] / curve[0]) / (1 - curve[501] / curve[0])
    for variance, sigma in (("fixed_small", small), ("fixed_large", beta), ("learned_range", np.sqrt(small * beta))):
        sampler = Ancestral(schedule, variance)
        actual = sampler.step(denoiser, sampler.init(x), 500, 400, lambda *_: jnp.zeros((1, 2))).x[0]
        np.testing.assert_allclose(actual[1] - actual[0], 2.0 * sigma, rtol=1e-4)


def test_ancestral_learned_variance_scales_the_noise_per_pixel(schedule):
    def denoiser(x_t, t):
        return Prediction(x0=x_t, eps=x_t, variance_fraction=jnp.array([[0.0, 1.0]]))

    i = np.arange(1001) / 1000
    curve = np.cos((i + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = 1 - curve[501] / curve[401]
    small = beta * (1 - curve[401] / curve[0]) / (1 - curve[501] / curve[0])
    sampler = Ancestral(schedule, "learned_range")
    state = sampler.init(jnp.zeros((1, 2)))
    actual = sampler.step(denoiser, state, 500, 400, lambda *_: jnp.ones((1, 2))).x[0]
    np.testing.assert_allclose(actual, np.sqrt([small, beta]), rtol=1e-4)


def test_sampling_traces_schedule_eta_steps_and_seed(schedule):
    TRACES.clear()
    results = [
        run(DDIM(s, eta), steps, seed)
        for s in (schedule, linear(1000))
        for eta in (0.0, 0.5)
        for steps in (5, 20)
        for seed in (0, 1)
    ]
    assert len(TRACES) <= 1  # 0 if another test has already compiled it
    for n, one in enumerate(results):
        assert all(np.max(np.abs(one - other)) > 1e-4 for other in results[:n])


def test_ancestral_rejects_unknown_variance(schedule):
    with pytest.raises(
        ValueError, match="variance must be one of fixed_small, fixed_large, learned_range, got 'large'"
    ):
        Ancestral(schedule, "large")

"""Properties of all samplers; each sampler in the list of conftest.py is tested for all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.samplers.sampler import initial, row_noise, sample
from unclip_jax.diffusion.schedule import linear
from unclip_jax.diffusion.timesteps import even_path, padded_path, segments

MEAN, DEVIATION = 0.3, 0.5
SHAPE = (4, 4, 1)
CALLS, TRACES = [], []


def network(x, t):
    """Nonlinear function of both inputs with a learned variance. Records the steps at which it runs."""
    jax.debug.callback(lambda t: CALLS.append(int(t)), t[0])
    t = t.astype(jnp.float32)[:, None, None, None] / 1000
    return jnp.concatenate([jnp.tanh(0.8 * x + jnp.sin(5 * t)), jnp.cos(3 * x + t)], axis=-1)


@jax.jit
def segment(sampler, state, path, keys):
    TRACES.append(1)
    denoiser = denoiser_from_network(network, schedule=sampler.schedule, predicts="x0")
    return sample(sampler, denoiser, state, path, row_noise(keys, SHAPE))


@jax.jit
def start(sampler, t, keys):
    return initial(sampler, row_noise(keys, SHAPE), t)


def draw(sampler, path, keys):
    return segment(sampler, start(sampler, path[0], keys), path, keys)


def keys(rows):
    return jax.random.split(jax.random.key(0), rows)


def test_sampler_reproduces_gaussian_data(sampler_case, schedule, law):
    mean, deviation = law(sampler_case.make(schedule), even_path(1000), MEAN, DEVIATION)
    assert (
        abs(mean - MEAN) < 2e-5
    )  # x_T ~ N(0, 1) loses the signal of 5e-5 of the mean, sqrt(alpha_bar_T) with alpha_bar_T = 2e-9
    assert abs(deviation - DEVIATION) < sampler_case.error


def test_sampler_error_has_the_expected_order(sampler_case, schedule, law):
    """Slope of log error over log steps, relative to an exact path to t = 0 followed by a last step without noise."""
    lengths = [40, 63, 100, 158, 250]
    sampler = sampler_case.make(schedule)
    a, variance = float(schedule.alpha_bar(0)), DEVIATION**2
    perfect = np.sqrt(variance**2 * a / (a * variance + 1 - a))  # standard deviation of E[x_0 | x_{t=0}]
    errors = [law(sampler, even_path(steps), MEAN, DEVIATION)[1] - perfect for steps in lengths]
    if sampler_case.order is None:
        np.testing.assert_allclose(errors, 0.0, atol=2e-6)
        return
    slope = np.polyfit(np.log(lengths), np.log(np.abs(errors)), 1)[0]
    assert abs(slope + sampler_case.order) < 0.15


def test_sampler_reproduces_gaussian_data_with_the_linear_schedule(sampler_case, law):
    mean, deviation = law(sampler_case.make(linear(1000)), even_path(250), MEAN, DEVIATION)
    # x_T ~ N(0, 1) loses the signal 0.0064 mu of the linear schedule's alpha_bar_T. Deterministic samplers keep the
    # error.
    assert abs(mean - MEAN) < 1.3e-3
    assert abs(deviation - DEVIATION) < 0.016


def test_path_padding_has_no_effect_and_runs_no_network(sampler_case, schedule):
    sampler, path = sampler_case.make(schedule), even_path(5)
    inside = np.array([999, 999, 749, 500, 500, 250, 0, -1, -1], np.int32)
    states = []
    for padded in (path, padded_path(path, 8), inside):
        CALLS.clear()
        states.append(jax.block_until_ready(draw(sampler, padded, keys(2))))
        jax.effects_barrier()
        assert sorted(CALLS) == sorted(path[:-1])
    for state in states:
        np.testing.assert_array_equal(state.x, states[0].x)
        assert state.draws == 5


def test_sampling_in_segments_equals_one_scan(sampler_case, schedule):
    """Paths of all lengths run through one compiled segment, with the full state carried over."""
    sampler = sampler_case.make(schedule)
    for steps in (1, 7, 8):
        path = even_path(steps)
        whole = draw(sampler, padded_path(path, 8), keys(2))
        state, before = start(sampler, path[0], keys(2)), len(TRACES)
        for piece in segments(path, 4):
            state = segment(sampler, state, piece, keys(2))
        assert len(TRACES) - before <= (steps == 1)
        np.testing.assert_array_equal(state.x, whole.x)
        assert state.draws == whole.draws == steps


def test_sample_of_a_row_does_not_depend_on_the_batch(sampler_case, schedule):
    path, sampler = padded_path(even_path(6), 8), sampler_case.make(schedule)
    five = draw(sampler, path, keys(5)).x
    two = draw(sampler, path, keys(5)[2:4]).x
    np.testing.assert_allclose(two, five[2:4], atol=1e-6)
    assert np.max(np.abs(five[2] - five[3])) > 0.01


def test_sample_is_x0_of_the_last_step(sampler_case, schedule):
    """The last step adds no noise."""
    sampler = sampler_case.make(schedule)
    before = draw(sampler, np.array([999, 700, 500, 100, 0], np.int32), keys(2))
    after = segment(sampler, before, np.array([0, -1, -1, -1, -1], np.int32), keys(2))
    expected = denoiser_from_network(network, schedule=schedule, predicts="x0")(before.x, jnp.zeros(2, jnp.int32)).x0
    np.testing.assert_allclose(after.x, expected, rtol=2e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_sample_is_finite_for_very_short_paths(sampler_case, schedule, steps):
    assert np.isfinite(draw(sampler_case.make(schedule), padded_path(even_path(steps), 8), keys(2)).x).all()


def test_every_step_uses_a_new_draw(sampler_case, schedule):
    requests = []

    def noise(draw, t, t_next):
        requests.append((int(draw), int(t), int(t_next)))
        return jnp.ones((1, *SHAPE))

    sampler = sampler_case.make(schedule)
    state = initial(sampler, noise, 999)
    denoiser = denoiser_from_network(network, schedule=schedule, predicts="x0")
    for t, t_next in ((999, 500), (500, 0)):
        state = sampler.step(denoiser, state, t, t_next, noise)
    steps = [(1, 999, 500), (2, 500, 0)] if sampler_case.requests_noise else []
    assert requests == [(0, 999, 999), *steps]
    assert state.draws == 2


@pytest.mark.parametrize("gradient", [None, 0.25])
def test_sampler_state_contains_x0_of_the_last_step(sampler_case, schedule, gradient):
    """The denoiser is x0 = x / 2 + t / 1000. Ancestral sampling adds a gradient to the mean, other samplers to x0."""

    def denoiser(x_t, t):
        x0 = 0.5 * x_t + t[:, None, None, None] / 1000
        full = None if gradient is None else jnp.full_like(x_t, gradient)
        return Prediction(x0=x0, eps=-x_t, variance_fraction=jnp.full_like(x_t, 0.5), gradient=full)

    sampler, noise = sampler_case.make(schedule), row_noise(keys(2), SHAPE)
    first = initial(sampler, noise, 999)
    np.testing.assert_array_equal(first.x0, np.zeros((2, *SHAPE)))
    before = sample(sampler, denoiser, first, np.array([999, 700]), noise)
    after = sample(sampler, denoiser, before, np.array([700, 500, 500]), noise)
    curve = np.cos((np.array([701 / 1000, 0.0]) + 0.008) / 1.008 * np.pi / 2) ** 2
    a = curve[0] / curve[1]
    moved = 0.0 if gradient is None or isinstance(sampler, Ancestral) else (1 - a) / np.sqrt(a) * gradient
    np.testing.assert_allclose(after.x0, 0.5 * np.asarray(before.x) + 0.7 + moved, rtol=2e-6, atol=2e-6)
    assert first.x0.dtype == before.x0.dtype == after.x0.dtype == jnp.float32


def test_step_without_effect_keeps_x0(sampler_case, schedule):
    sampler = sampler_case.make(schedule)
    state = draw(sampler, np.array([999, 700, 500], np.int32), keys(2))
    assert np.max(np.abs(state.x0)) > 0.1
    np.testing.assert_array_equal(segment(sampler, state, np.array([500, 500, 500], np.int32), keys(2)).x0, state.x0)


def test_row_noise_draws_are_independent():
    noise = row_noise(keys(3), (100,))
    flat = np.stack([noise(n, 5, 4) for n in range(4)]).reshape(12, 100)
    assert np.max(np.abs(np.corrcoef(flat) - np.eye(12))) < 0.45  # 4.5 standard deviations of 1 / sqrt(100)
    np.testing.assert_array_equal(noise(2, 5, 4), noise(2, 9, -1))  # only the index of the draw matters

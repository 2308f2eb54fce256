import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.forward_process import q_sample
from unclip_jax.diffusion.prediction import Prediction, absorb_gradient, eps_to_x0, velocity, x0_to_eps
from unclip_jax.diffusion.thresholding import clipped, dynamically_thresholded

T = np.array([0, 3, 250, 700, 999])


def draws():
    return jax.random.normal(jax.random.key(0), (3, len(T), 2, 2, 3))


def test_x0_and_eps_convert_into_each_other(schedule):
    x0, noise, _ = draws()
    x_t = q_sample(schedule, x0, T, noise)
    # Rounding errors of x_t are amplified by 1 / sqrt(alpha_bar) in x0 and by 1 / sqrt(1 - alpha_bar) in eps.
    error_x0 = np.max(np.abs(eps_to_x0(schedule, noise, x_t, T) - x0), axis=(1, 2, 3))
    assert np.all(error_x0 < 1e-6 / np.asarray(schedule.signal_scale(T)))
    error_eps = np.max(np.abs(x0_to_eps(schedule, x0, x_t, T) - noise), axis=(1, 2, 3))
    assert np.all(error_eps < 1e-6 / np.asarray(schedule.noise_scale(T)))


def test_x0_to_eps_inverts_eps_to_x0(schedule):
    x_t, eps, _ = draws()
    np.testing.assert_allclose(x0_to_eps(schedule, eps_to_x0(schedule, eps, x_t, T), x_t, T), eps, atol=1e-4)


def test_denoiser_of_an_eps_network(schedule):
    x_t, eps, v = draws()
    steps = []

    def network(x, t):
        steps.append(t)
        return jnp.concatenate([eps, v], axis=-1)

    prediction = denoiser_from_network(network, schedule=schedule, predicts="eps")(x_t, T)
    np.testing.assert_array_equal(steps[0], T)  # steps of the training schedule
    np.testing.assert_array_equal(prediction.eps, eps)
    np.testing.assert_array_equal(prediction.variance_fraction, (v + 1) / 2)
    rebuilt = q_sample(schedule, prediction.x0, T, prediction.eps)
    np.testing.assert_allclose(rebuilt, x_t, atol=3e-6)
    assert prediction.gradient is None


def test_denoiser_of_an_x0_network_returns_float32(schedule):
    x_t, x0, _ = draws()
    low = x0.astype(jnp.bfloat16)
    prediction = denoiser_from_network(lambda x, t: low, schedule=schedule, predicts="x0")(x_t, T)
    assert prediction.x0.dtype == prediction.eps.dtype == jnp.float32
    assert prediction.variance_fraction is None
    np.testing.assert_array_equal(prediction.x0, low.astype(jnp.float32))
    np.testing.assert_allclose(q_sample(schedule, prediction.x0, T, prediction.eps), x_t, atol=3e-6)


def test_denoiser_of_a_velocity_network_keeps_full_precision(schedule):
    """Checks float64 formulas to 2e-6 at every t. Networks that predict eps or x0 lose precision in the other."""
    x0, noise, v = draws()
    x_t = q_sample(schedule, x0, T, noise)
    output = jnp.concatenate([velocity(schedule, x0, noise, T), v], axis=-1)
    prediction = denoiser_from_network(lambda x, t: output, schedule=schedule, predicts="v")(x_t, T)
    np.testing.assert_allclose(prediction.x0, x0, atol=2e-6)
    np.testing.assert_allclose(prediction.eps, noise, atol=2e-6)
    np.testing.assert_array_equal(prediction.variance_fraction, (v + 1) / 2)
    a = np.cos((251 / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    expected = np.sqrt(a) * np.float64(noise[2]) - np.sqrt(1 - a) * np.float64(x0[2])  # t = 250
    np.testing.assert_allclose(output[2, ..., :3], expected, atol=2e-6)


def test_denoiser_accepts_embeddings(schedule):
    z_t = draws()[0].reshape(len(T), -1)
    prediction = denoiser_from_network(lambda z, t: 0.5 * z, schedule=schedule, predicts="x0")(z_t, T)
    np.testing.assert_array_equal(prediction.x0, 0.5 * z_t)


def test_denoiser_rejects_wrong_channels_and_unknown_parameterization(schedule):
    x_t = draws()[0]
    denoiser = denoiser_from_network(lambda x, t: x[..., :2], schedule=schedule, predicts="eps")
    with pytest.raises(ValueError, match="must have 3 channels, or 6 with a learned variance, got 2"):
        denoiser(x_t, T)
    with pytest.raises(ValueError, match="predicts must be one of eps, x0, v, got 'x1'."):
        denoiser_from_network(lambda x, t: x, schedule=schedule, predicts="x1")


def test_clipped_x0_and_eps_describe_the_same_x_t(schedule):
    x_t, eps, v = draws()
    raw = denoiser_from_network(lambda x, t: jnp.concatenate([eps, v], -1), schedule=schedule, predicts="eps")
    prediction = clipped(raw, schedule=schedule, limit=0.8)(x_t, T)
    np.testing.assert_array_equal(prediction.x0, np.clip(raw(x_t, T).x0, -0.8, 0.8))
    assert np.max(np.abs(prediction.x0)) == np.float32(0.8) and np.min(np.abs(prediction.x0)) < 0.8
    np.testing.assert_allclose(q_sample(schedule, prediction.x0, T, prediction.eps), x_t, atol=3e-6)
    np.testing.assert_array_equal(prediction.variance_fraction, (v + 1) / 2)
    assert clipped(raw, schedule=schedule, limit=None) is raw


def test_dynamic_thresholding_uses_a_threshold_per_row(schedule):
    """The rows of x0 have percentiles below 1 (only clipping), between 1 and the cap, and above the cap."""
    largest = np.array([0.5, 2.0, 10.0])
    x0 = jnp.asarray(np.linspace(-1, 1, 201)[None, :] * largest[:, None], jnp.float32)
    x_t, t = jnp.ones_like(x0), np.array([3, 500, 999])
    raw = denoiser_from_network(lambda x, t: x0, schedule=schedule, predicts="x0")
    prediction = dynamically_thresholded(raw, schedule=schedule, percentile=90.0, cap=3.0)(x_t, t)
    # |x0| is evenly spaced, so its 90th percentile is 0.9 times the largest value.
    for row, s in enumerate([1.0, 1.8, 3.0]):
        np.testing.assert_allclose(prediction.x0[row], np.clip(x0[row], -s, s) / s, atol=1e-6)
    np.testing.assert_allclose(q_sample(schedule, prediction.x0, t, prediction.eps), x_t, atol=3e-6)


@pytest.mark.parametrize("dynamic", [False, True])
def test_thresholding_recomputes_eps_only_if_x0_changed(schedule, dynamic):
    """x0 and eps do not match x_t, as some guidance methods produce them."""
    x0, eps = jnp.array([[0.5, 2.0, -1.0, -3.0]]), jnp.array([[7.0, 8.0, 9.0, 10.0]])
    x_t, t = jnp.zeros((1, 4)), jnp.array([400])

    def raw(x_t, t):
        return Prediction(x0=x0, eps=eps)

    if dynamic:
        bounded = dynamically_thresholded(raw, schedule=schedule, percentile=50.0, cap=1.0)
    else:
        bounded = clipped(raw, schedule=schedule, limit=1.0)
    prediction = bounded(x_t, t)
    np.testing.assert_array_equal(prediction.x0, [[0.5, 1.0, -1.0, -1.0]])
    curve = np.cos((np.array([401 / 1000, 0.0]) + 0.008) / 1.008 * np.pi / 2) ** 2
    a = curve[0] / curve[1]
    ratio = np.sqrt(a / (1 - a))  # eps = -sqrt(a) x0 / sqrt(1 - a), since x_t is 0
    np.testing.assert_allclose(prediction.eps, [[7.0, -ratio, 9.0, ratio]], rtol=1e-5)


def test_absorb_gradient_changes_x0_and_eps_consistently(schedule):
    x_t, eps, gradient = draws()
    before = Prediction(x0=eps_to_x0(schedule, eps, x_t, T), eps=eps, gradient=gradient)
    after = absorb_gradient(before, schedule=schedule, t=T)
    scale = np.asarray(schedule.noise_scale(T))[:, None, None, None]
    np.testing.assert_allclose(after.eps, eps - scale * gradient, atol=1e-6)
    np.testing.assert_allclose(q_sample(schedule, after.x0, T, after.eps), x_t, atol=3e-6)
    assert after.gradient is None
    plain = Prediction(x0=x_t, eps=eps)
    assert absorb_gradient(plain, schedule=schedule, t=T) is plain

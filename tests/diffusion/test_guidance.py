import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.forward_process import q_sample
from unclip_jax.diffusion.guidance import classifier_free
from unclip_jax.diffusion.prediction import Prediction

ROWS, SHAPE = 3, (3, 2, 2, 1)


def stacked_outputs():
    return jax.random.normal(jax.random.key(0), (3, 2 * ROWS, 2, 2, 1))


def make_stacked(calls):
    x0, eps, fraction = stacked_outputs()

    def stacked(x_t, t):
        calls.append((x_t, t))
        return Prediction(x0=x0, eps=eps, variance_fraction=fraction)

    return stacked


def test_guidance_evaluates_both_halves_in_one_call():
    calls = []
    x_t, t = jax.random.normal(jax.random.key(1), SHAPE), jnp.array([5, 6, 7])
    classifier_free(make_stacked(calls), scale=2.0)(x_t, t)
    assert len(calls) == 1
    np.testing.assert_array_equal(calls[0][0], np.concatenate([x_t, x_t]))
    np.testing.assert_array_equal(calls[0][1], [5, 6, 7, 5, 6, 7])


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_extrapolates_x0_and_eps(scale):
    x0, eps, fraction = np.asarray(stacked_outputs(), np.float64)
    prediction = classifier_free(make_stacked([]), scale=scale)(jnp.zeros(SHAPE), jnp.zeros(ROWS, jnp.int32))
    np.testing.assert_allclose(prediction.x0, (1 - scale) * x0[ROWS:] + scale * x0[:ROWS], atol=2e-6)
    np.testing.assert_allclose(prediction.eps, (1 - scale) * eps[ROWS:] + scale * eps[:ROWS], atol=2e-6)
    np.testing.assert_array_equal(prediction.variance_fraction, np.float32(fraction[:ROWS]))


def test_guidance_accepts_a_scale_per_row():
    x0, _, _ = np.asarray(stacked_outputs(), np.float64)
    scale = jnp.array([0.0, 1.0, 4.0])
    prediction = classifier_free(make_stacked([]), scale=scale)(jnp.zeros(SHAPE), jnp.zeros(ROWS, jnp.int32))
    for row, s in enumerate([0.0, 1.0, 4.0]):
        expected = (1 - s) * x0[ROWS + row] + s * x0[row]
        np.testing.assert_allclose(prediction.x0[row], expected, atol=3e-6)


@pytest.mark.parametrize("predicts, t", [("x0", 999), ("eps", 0)])
def test_guidance_keeps_precision_of_the_predicted_quantity(schedule, predicts, t):
    """If derived from the other quantity, x0 would be wrong by 1e-3 at t = 999, and eps by 1e-5 at t = 0."""
    output, _, _ = stacked_outputs()
    stacked = denoiser_from_network(lambda x, t: output, schedule=schedule, predicts=predicts)
    x_t = jax.random.normal(jax.random.key(2), SHAPE)
    prediction = classifier_free(stacked, scale=3.0)(x_t, jnp.full(ROWS, t))
    output = np.asarray(output, np.float64)
    expected = output[ROWS:] + 3.0 * (output[:ROWS] - output[ROWS:])
    np.testing.assert_allclose(getattr(prediction, predicts), expected, atol=2e-6)


def test_guidance_is_disabled_outside_its_interval():
    x0, eps, _ = np.asarray(stacked_outputs(), np.float64)
    t = jnp.array([99, 100, 700])
    prediction = classifier_free(make_stacked([]), scale=3.0, interval=(100, 699))(jnp.zeros(SHAPE), t)
    for row, scale in enumerate([1.0, 3.0, 1.0]):
        expected = [(1 - scale) * view[ROWS + row] + scale * view[row] for view in (x0, eps)]
        np.testing.assert_allclose(prediction.x0[row], expected[0], atol=2e-6)
        np.testing.assert_allclose(prediction.eps[row], expected[1], atol=2e-6)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_guidance_rescale_restores_the_standard_deviation_of_x0(schedule, phi):
    x0, _, _ = np.asarray(stacked_outputs(), np.float64)
    x_t, t = jax.random.normal(jax.random.key(3), SHAPE), jnp.array([3, 400, 990])
    stacked = denoiser_from_network(lambda x, t: stacked_outputs()[0], schedule=schedule, predicts="x0")
    prediction = classifier_free(stacked, scale=3.0, rescale=phi, schedule=schedule)(x_t, t)
    guided = x0[ROWS:] + 3.0 * (x0[:ROWS] - x0[ROWS:])
    for row in range(ROWS):
        factor = phi * np.std(x0[row]) / np.std(guided[row]) + 1 - phi
        np.testing.assert_allclose(prediction.x0[row], factor * guided[row], atol=3e-6)
        assert phi == 0.0 or factor < 0.7
    np.testing.assert_allclose(q_sample(schedule, prediction.x0, t, prediction.eps), x_t, atol=3e-6)
    plain = classifier_free(stacked, scale=3.0)(x_t, t)
    if phi == 0.0:
        np.testing.assert_array_equal(prediction.eps, plain.eps)
    with pytest.raises(ValueError, match="schedule must be set if rescale is set"):
        classifier_free(stacked, scale=3.0, rescale=phi)


def test_guidance_scale_is_traced():
    traces = []

    @jax.jit
    def guided(scale, x_t):
        traces.append(1)
        return classifier_free(make_stacked([]), scale=scale)(x_t, jnp.zeros(ROWS, jnp.int32)).x0

    x_t = jnp.zeros(SHAPE)
    assert not np.allclose(guided(2.0, x_t), guided(7.5, x_t))
    assert len(traces) == 1

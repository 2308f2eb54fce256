import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.forward_process import q_sample
from unclip_jax.diffusion.guidance import classifier_free
from unclip_jax.diffusion.prediction import Prediction

ROWS, SHAPE = 3, (3, 2, 2, 1)


def stacked_answers():
    return jax.random.normal(jax.random.key(0), (3, 2 * ROWS, 2, 2, 1))


def make_stacked(calls):
    x0, eps, fraction = stacked_answers()

    def stacked(x_t, t):
        calls.append((x_t, t))
        return Prediction(x0=x0, eps=eps, variance_fraction=fraction)

    return stacked


def test_one_call_asks_for_both_halves():
    calls = []
    x_t, t = jax.random.normal(jax.random.key(1), SHAPE), jnp.array([5, 6, 7])
    classifier_free(make_stacked(calls), scale=2.0)(x_t, t)
    assert len(calls) == 1
    np.testing.assert_array_equal(calls[0][0], np.concatenate([x_t, x_t]))
    np.testing.assert_array_equal(calls[0][1], [5, 6, 7, 5, 6, 7])


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_both_views_are_extrapolated_from_the_second_half_to_the_first(scale):
    x0, eps, fraction = np.asarray(stacked_answers(), np.float64)
    prediction = classifier_free(make_stacked([]), scale=scale)(jnp.zeros(SHAPE), jnp.zeros(ROWS, jnp.int32))
    np.testing.assert_allclose(prediction.x0, (1 - scale) * x0[ROWS:] + scale * x0[:ROWS], atol=2e-6)
    np.testing.assert_allclose(prediction.eps, (1 - scale) * eps[ROWS:] + scale * eps[:ROWS], atol=2e-6)
    np.testing.assert_array_equal(prediction.variance_fraction, np.float32(fraction[:ROWS]))


def test_rows_may_have_their_own_scale():
    x0, _, _ = np.asarray(stacked_answers(), np.float64)
    scale = jnp.array([0.0, 1.0, 4.0])
    prediction = classifier_free(make_stacked([]), scale=scale)(jnp.zeros(SHAPE), jnp.zeros(ROWS, jnp.int32))
    for row, s in enumerate([0.0, 1.0, 4.0]):
        expected = (1 - s) * x0[ROWS + row] + s * x0[row]
        np.testing.assert_allclose(prediction.x0[row], expected, atol=3e-6)


@pytest.mark.parametrize("predicts, t", [("x0", 999), ("eps", 0)])
def test_what_the_network_predicts_keeps_its_digits(schedule, predicts, t):
    """Derived from the other view, x0 would be wrong by 1e-3 at t = 999, and eps by 1e-5 at t = 0."""
    output, _, _ = stacked_answers()
    stacked = denoiser_from_network(lambda x, t: output, schedule=schedule, predicts=predicts)
    x_t = jax.random.normal(jax.random.key(2), SHAPE)
    prediction = classifier_free(stacked, scale=3.0)(x_t, jnp.full(ROWS, t))
    output = np.asarray(output, np.float64)
    expected = output[ROWS:] + 3.0 * (output[:ROWS] - output[ROWS:])
    np.testing.assert_allclose(getattr(prediction, predicts), expected, atol=2e-6)


def test_outside_its_interval_there_is_no_guidance():
    x0, eps, _ = np.asarray(stacked_answers(), np.float64)
    t = jnp.array([99, 100, 700])
    prediction = classifier_free(make_stacked([]), scale=3.0, interval=(100, 699))(jnp.zeros(SHAPE), t)
    for row, scale in enumerate([1.0, 3.0, 1.0]):
        expected = [(1 - scale) * view[ROWS + row] + scale * view[row] for view in (x0, eps)]
        np.testing.assert_allclose(prediction.x0[row], expected[0], atol=2e-6)
        np.testing.assert_allclose(prediction.eps[row], expected[1], atol=2e-6)


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescaling_gives_x0_back_its_deviation_and_eps_follows(schedule, phi):
    x0, _, _ = np.asarray(stacked_answers(), np.float64)
    x_t, t = jax.random.normal(jax.random.key(3), SHAPE), jnp.array([3, 400, 990])
    stacked = denoiser_from_network(lambda x, t: stacked_answers()[0], schedule=schedule, predicts="x0")
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
    with pytest.raises(ValueError, match="rescale needs the schedule too"):
        classifier_free(stacked, scale=3.0, rescale=phi)


def test_another_scale_compiles_nothing():
    traces = []

    @jax.jit
    def guided(scale, x_t):
        traces.append(1)
        return classifier_free(make_stacked([]), scale=scale)(x_t, jnp.zeros(ROWS, jnp.int32)).x0

    x_t = jnp.zeros(SHAPE)
    assert not np.allclose(guided(2.0, x_t), guided(7.5, x_t))
    assert len(traces) == 1

"""What the denoising tasks share: targets that a sampler's denoiser turns back, and steps drawn evenly."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import quick
from tests.tasks.tiny_tasks import COSINE, ROWS, batch, decoder_task, frozen, prior_task, upsampler_task
from unclip_jax import rng
from unclip_jax.diffusion.denoiser import denoiser_from_network
from unclip_jax.diffusion.prediction import PREDICTS, target
from unclip_jax.tasks import denoising


@pytest.mark.parametrize("predicts", PREDICTS)
def test_a_network_that_answers_the_target_knows_picture_and_noise(predicts):
    x0 = jax.random.uniform(jax.random.key(0), (5, 4, 4, 3), minval=-1.0)
    keys = rng.rows(jax.random.key(1), jnp.arange(5))
    x_t, t, noise = denoising.noised(COSINE, x0, keys)
    answer = target(COSINE, predicts, x0=x0, noise=noise, t=t)
    prediction = denoiser_from_network(lambda x, t: answer, schedule=COSINE, predicts=predicts)(x_t, t)
    # rounding of eps is magnified by 1 / sqrt(alpha_bar) in x0, that of x0 by 1 / sqrt(1 - alpha_bar) in eps
    rounding = 2e-6 / np.minimum(COSINE.signal_scale(t), COSINE.noise_scale(t))[:, None, None, None]
    assert np.all(np.abs(prediction.x0 - x0) < rounding) and np.all(np.abs(prediction.eps - noise) < rounding)


def test_steps_are_drawn_evenly_from_the_whole_schedule():
    keys = rng.rows(jax.random.key(2), jnp.arange(20_000))
    _, t, _ = denoising.noised(COSINE, jnp.zeros((20_000, 1)), keys)
    assert (np.min(t), np.max(t)) == (0, 999)
    counts, _ = np.histogram(t, bins=10, range=(0, 1000))
    assert np.max(np.abs(counts - 2000)) < 5 * np.sqrt(2000 * 0.9)  # five deviations


def test_steps_are_drawn_by_a_normal_distribution_of_their_logit():
    keys = rng.rows(jax.random.key(2), jnp.arange(20_000))
    _, t, _ = denoising.noised(COSINE, jnp.zeros((20_000, 1)), keys, logit_normal=(-0.8, 1.2))
    share = (np.asarray(t) + 0.5) / 1000
    logit = np.log(share / (1.0 - share))
    assert np.mean(logit) == pytest.approx(-0.8, abs=5 * 1.2 / np.sqrt(20_000))
    assert np.std(logit) == pytest.approx(1.2, abs=5 * 1.2 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize(("mean", "step"), [(-40.0, 0), (40.0, 999)])
def test_steps_at_either_end_are_steps_of_the_schedule(mean, step):
    keys = rng.rows(jax.random.key(2), jnp.arange(4))
    _, t, _ = denoising.noised(COSINE, jnp.zeros((4, 1)), keys, logit_normal=(mean, 1.0))
    np.testing.assert_array_equal(t, step)


@pytest.mark.parametrize("value", [(0.0,), (0.0, 0.0), (0.0, -1.0), 1.0, "ab"])
def test_a_distribution_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="logit_normal must be a mean and a standard deviation above 0, .* got"):
        upsampler_task(logit_normal=value)


@pytest.mark.parametrize("value", [(5.0,), (5.0, 1.0), (-1.0, 5.0), (0.0, 0.0), 5.0, "ab"])
def test_limits_of_weights_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="snr_clip must be a lower and an upper limit, .* got"):
        upsampler_task(snr_clip=value)


def test_an_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="predicts is 'x1': the known ones are eps, x0, v"):
        upsampler_task(predicts="x1")


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize(
    ("task_of", "name"), [(prior_task, "drop_text"), (decoder_task, "drop_text"), (decoder_task, "drop_image")]
)
def test_a_share_that_is_none_is_refused(task_of, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got"):
        task_of(**{name: value})


def test_a_color_jitter_below_0_is_refused():
    with pytest.raises(ValueError, match="color_jitter must be a standard deviation of at least 0, got -0.5"):
        decoder_task(color_jitter=-0.5)


def test_the_decoder_reports_the_share_of_clipped_variance_fractions():
    """Biases of 4, 0 and -4 on v, which is 0 otherwise: two of three channels leave [-3, 3], as fractions [-1, 2]."""
    task, data, fixed = decoder_task(), batch(), frozen()
    params = task.init(jax.random.key(0), data)
    keys = types.SimpleNamespace(rows=rng.rows(jax.random.key(1), jnp.arange(ROWS)), layers=jax.random.key(2))
    report = quick.jit(lambda params: task.loss(params, fixed, data, keys, train=False)[1])
    shares = []
    for bias in ((2.9, 0.0, -2.9), (4.0, 0.0, -4.0)):
        params["unet"]["conv_out"] = {
            "kernel": jnp.zeros_like(params["unet"]["conv_out"]["kernel"]),
            "bias": jnp.array([0.0, 0.0, 0.0, *bias]),
        }
        shares.append(float(report(params)["variance_clipped"]))
    np.testing.assert_allclose(shares, [0.0, 2 / 3], rtol=1e-6)

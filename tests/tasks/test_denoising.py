"""Shared parts of the denoising tasks: targets, random steps and validation of options."""

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
from unclip_jax.diffusion.schedule import cosine
from unclip_jax.tasks import denoising


@pytest.mark.parametrize("predicts", PREDICTS)
def test_denoiser_recovers_x0_and_noise_from_target(predicts):
    x0 = jax.random.uniform(jax.random.key(0), (5, 4, 4, 3), minval=-1.0)
    keys = rng.rows(jax.random.key(1), jnp.arange(5))
    x_t, t, noise = denoising.noised(COSINE, x0, keys)
    output = target(COSINE, predicts, x0=x0, noise=noise, t=t)
    prediction = denoiser_from_network(lambda x, t: output, schedule=COSINE, predicts=predicts)(x_t, t)
    # Rounding errors of eps grow by 1 / sqrt(alpha_bar) in x0, those of x0 by 1 / sqrt(1 - alpha_bar) in eps.
    rounding = 2e-6 / np.minimum(COSINE.signal_scale(t), COSINE.noise_scale(t))[:, None, None, None]
    assert np.all(np.abs(prediction.x0 - x0) < rounding) and np.all(np.abs(prediction.eps - noise) < rounding)


def test_preview_takes_all_steps_of_a_short_schedule():
    keys, x0 = rng.rows(jax.random.key(0), jnp.arange(2)), jnp.full((2, 4, 4, 3), 0.5)
    made = denoising.preview(cosine(5), lambda x_t, t: x0, keys, (4, 4, 3), predicts="x0")
    np.testing.assert_array_equal(made, np.full((2, 4, 4, 3), 191))  # (0.5 + 1) / 2 * 255


def test_steps_are_uniform_over_the_schedule():
    keys = rng.rows(jax.random.key(2), jnp.arange(20_000))
    _, t, _ = denoising.noised(COSINE, jnp.zeros((20_000, 1)), keys)
    assert (np.min(t), np.max(t)) == (0, 999)
    counts, _ = np.histogram(t, bins=10, range=(0, 1000))
    assert np.max(np.abs(counts - 2000)) < 5 * np.sqrt(2000 * 0.9)  # five standard deviations


def test_logit_of_steps_is_normal_with_logit_normal():
    keys = rng.rows(jax.random.key(2), jnp.arange(20_000))
    _, t, _ = denoising.noised(COSINE, jnp.zeros((20_000, 1)), keys, logit_normal=(-0.8, 1.2))
    u = (np.asarray(t) + 0.5) / 1000
    logit = np.log(u / (1.0 - u))
    assert np.mean(logit) == pytest.approx(-0.8, abs=5 * 1.2 / np.sqrt(20_000))
    assert np.std(logit) == pytest.approx(1.2, abs=5 * 1.2 / np.sqrt(2 * 20_000))


@pytest.mark.parametrize(("mean", "step"), [(-40.0, 0), (40.0, 999)])
def test_logit_normal_steps_stay_within_the_schedule(mean, step):
    keys = rng.rows(jax.random.key(2), jnp.arange(4))
    _, t, _ = denoising.noised(COSINE, jnp.zeros((4, 1)), keys, logit_normal=(mean, 1.0))
    np.testing.assert_array_equal(t, step)


@pytest.mark.parametrize("value", [(0.0,), (0.0, 0.0), (0.0, -1.0), 1.0, "ab"])
def test_invalid_logit_normal_is_rejected(value):
    with pytest.raises(ValueError, match="logit_normal must be a mean and a standard deviation above 0, .* got"):
        upsampler_task(logit_normal=value)


@pytest.mark.parametrize("value", [(5.0,), (5.0, 1.0), (-1.0, 5.0), (0.0, 0.0), 5.0, "ab"])
def test_invalid_snr_clip_is_rejected(value):
    with pytest.raises(ValueError, match="snr_clip must be a lower and an upper limit, .* got"):
        upsampler_task(snr_clip=value)


def test_unknown_parameterization_is_rejected():
    with pytest.raises(ValueError, match="predicts must be one of eps, x0, v, got 'x1'"):
        upsampler_task(predicts="x1")


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize(
    ("task_of", "name"), [(prior_task, "drop_text"), (decoder_task, "drop_text"), (decoder_task, "drop_image")]
)
def test_drop_fraction_outside_0_to_1_is_rejected(task_of, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got"):
        task_of(**{name: value})


def test_negative_color_jitter_is_rejected():
    with pytest.raises(ValueError, match="color_jitter must be at least 0, got -0.5"):
        decoder_task(color_jitter=-0.5)


def test_variance_clipped_is_fraction_of_clipped_variance_outputs():
    """With biases of 4, 0 and -4, v leaves [-3, 3] (fractions [-1, 2]) in two of three channels."""
    task, data, fixed = decoder_task(), batch(), frozen()
    params = task.init(jax.random.key(0), data)
    keys = types.SimpleNamespace(rows=rng.rows(jax.random.key(1), jnp.arange(ROWS)), layers=jax.random.key(2))
    metrics = quick.jit(lambda params: task.loss(params, fixed, data, keys, train=False)[1])
    fractions = []
    for bias in ((2.9, 0.0, -2.9), (4.0, 0.0, -4.0)):
        params["unet"]["conv_out"] = {
            "kernel": jnp.zeros_like(params["unet"]["conv_out"]["kernel"]),
            "bias": jnp.array([0.0, 0.0, 0.0, *bias]),
        }
        fractions.append(float(metrics(params)["variance_clipped"]))
    np.testing.assert_allclose(fractions, [0.0, 2 / 3], rtol=1e-6)

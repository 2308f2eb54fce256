"""Inversion with deterministic samplers: from an image to the x_T that leads back to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.dpm_solver import DPMSolver
from unclip_jax.diffusion.samplers.sampler import sample
from unclip_jax.diffusion.timesteps import ascending, even_path

MEAN, DEVIATION = 0.3, 0.25


def psnr(a, b):
    """Computes the PSNR of images in [-1, 1]."""
    return 10 * np.log10(4 / np.mean(np.square(np.asarray(a) - np.asarray(b))))


@pytest.mark.parametrize(("make", "least"), [(DDIM, 42.0), (DPMSolver, 60.0)], ids=["ddim", "dpm-solver"])
def test_inversion_ends_in_noise_and_sampling_recovers_the_image(schedule, gaussian_oracle, make, least):
    """With the ideal denoiser and 100 steps each way, x_T is (x_0 - mean) / deviation, which the ODE preserves."""
    path = even_path(100)
    next_of = jnp.full(1000, -1).at[path[:-1]].set(path[1:])  # for the variance, which these samplers do not use
    denoiser = gaussian_oracle(schedule, next_of, MEAN, DEVIATION)
    x0 = MEAN + DEVIATION * jax.random.normal(jax.random.key(0), (4, 8, 8, 3))

    @jax.jit
    def go(state, path):
        return sample(make(schedule), denoiser, state, path, lambda *_: jnp.zeros_like(x0)).x

    sampler = make(schedule)
    x_last = go(sampler.init(x0), ascending(path))
    back = go(sampler.init(x_last), path)
    assert psnr(back, x0) > least
    np.testing.assert_allclose(x_last, (x0 - MEAN) / DEVIATION, atol=0.1)
    few = go(sampler.init(go(sampler.init(x0), ascending(even_path(20)))), even_path(20))
    assert psnr(few, x0) < psnr(back, x0) - 6

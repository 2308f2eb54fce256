"""Gaussian oracle, and the list of samplers that the general sampler tests run on.

The ideal denoiser of data N(mu, s^2) has a closed form. With a = alpha_bar_t and b = 1 - a,

    E[x_0 | x_t] = mu + s^2 sqrt(a) (x_t - sqrt(a) mu) / (a s^2 + b),   Var[x_0 | x_t] = s^2 b / (a s^2 + b)

Every sampler is then affine in its noise draws, so unit impulses determine the exact distribution of its output.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.samplers.ddpm import Ancestral
from unclip_jax.diffusion.samplers.dpm_solver import DPMSolver
from unclip_jax.diffusion.samplers.sampler import Sampler, initial, sample
from unclip_jax.diffusion.schedule import Schedule, cosine, per_row


@dataclasses.dataclass(frozen=True)
class SamplerCase:
    """Sampler, and its expected error in the standard deviation of Gaussian data.

    Attributes:
      name: Test ID.
      make: Creates the sampler for a schedule.
      order: Power of 1 / steps with which the error vanishes. If None, the sampler is exact for any number of steps.
      error: Bound for data with standard deviation 0.5 and all 1000 steps of the cosine schedule.
      requests_noise: Whether it calls the noise function in its steps, even if with weight 0.
    """

    name: str
    make: Callable[[Schedule], Sampler]
    order: int | None
    error: float
    requests_noise: bool = True


SAMPLERS = [
    SamplerCase("ancestral-fixed-small", Ancestral, order=1, error=2.5e-3),
    SamplerCase("ancestral-fixed-large", lambda s: Ancestral(s, "fixed_large"), order=1, error=2.5e-3),
    SamplerCase("ancestral-learned-range", lambda s: Ancestral(s, "learned_range"), order=None, error=6e-5),
    SamplerCase("ddim", lambda s: DDIM(s, 0.0), order=1, error=1e-3),
    SamplerCase("ddim-eta-half", lambda s: DDIM(s, 0.5), order=1, error=1.3e-3),
    SamplerCase("ddim-eta-one", lambda s: DDIM(s, 1.0), order=1, error=2.5e-3),
    SamplerCase("dpm-solver", DPMSolver, order=2, error=6e-5, requests_noise=False),
]


@pytest.fixture(params=SAMPLERS, ids=lambda case: case.name)
def sampler_case(request):
    return request.param


@pytest.fixture(scope="session")
def schedule():
    return cosine(1000)


def oracle(schedule, next_of, mean, deviation, shift=None):
    """Returns the ideal denoiser of N(mean, deviation^2).

    Args:
      schedule: The noise schedule.
      next_of: The step that follows each step t on the path, int32 "T". The variance fraction is chosen to make the
        reverse variance of each of these steps exact.
      mean: Mean of the data.
      deviation: Standard deviation of the data.
      shift: Adds the gradient that changes the data to N(mean + shift, deviation^2). If None, there is no gradient.
    """

    def denoiser(x_t, t):
        a, b = per_row(schedule.alpha_bar(t), x_t), per_row(schedule.one_minus_alpha_bar(t), x_t)
        total = a * deviation**2 + b
        offset = (x_t - jnp.sqrt(a) * mean) / total
        t_next = next_of[t]
        b_next, beta = per_row(schedule.one_minus_alpha_bar(t_next), x_t), per_row(schedule.beta(t, t_next), x_t)
        small = b_next / b * beta
        true = small + per_row(schedule.alpha_bar(t_next), x_t) * (beta / b) ** 2 * deviation**2 * b / total
        fraction = (jnp.log(true) - jnp.log(small)) / (jnp.log(beta) - jnp.log(small))
        fraction = jnp.where(per_row(t_next, x_t) < 0, 0.5, fraction)
        gradient = None if shift is None else jnp.broadcast_to(jnp.sqrt(a) * shift / total, x_t.shape)
        return Prediction(
            x0=mean + deviation**2 * jnp.sqrt(a) * offset,
            eps=jnp.sqrt(b) * offset,
            variance_fraction=jnp.broadcast_to(fraction, x_t.shape),
            gradient=gradient,
        )

    return denoiser


@jax.jit
def impulse_responses(sampler, path, next_of, mean, deviation, shift):
    rows = jnp.arange(path.shape[0] + 1)  # one for x_T, one for each step, and one without noise

    def noise(draw, t, t_next):
        return (rows == draw).astype(jnp.float32)[:, None]

    denoiser = oracle(sampler.schedule, next_of, mean, deviation, shift)
    return sample(sampler, denoiser, initial(sampler, noise, path[0]), path, noise).x[:, 0]


@pytest.fixture(scope="session")
def gaussian_oracle():
    return oracle


@pytest.fixture(scope="session")
def law():
    """Function of (sampler, path, mean, deviation, shift=None) that returns the output's mean and standard deviation.

    The noise of row n of the batch is 1 in draw n and 0 in all other draws. It is 0 in the last row.
    """

    def of(sampler, path, mean, deviation, shift=None):
        next_of = np.full(1000, -1, np.int32)
        next_of[path[:-1]] = path[1:]
        path = np.pad(path, (0, 1001 - len(path)), mode="edge")  # one compilation for all lengths
        x = np.asarray(impulse_responses(sampler, path, next_of, mean, deviation, shift), np.float64)
        return x[-1], np.sqrt(np.sum(np.square(x - x[-1])))

    return of

"""Ancestral sampling (Ho et al. 2020, arXiv 2006.11239, Algorithm 2), with fixed or learned variance.

    x_next = mean(x_0, x_t) + Sigma gradient + sqrt(Sigma) noise

The mean is that of q(x_next | x_t, x_0) (Ho et al. 2020, Eq. 7), the learned variance is that of Improved DDPM (Nichol
and Dhariwal 2021, arXiv 2102.09672), and the gradient is that of classifier guidance (Dhariwal and Nichol 2021, arXiv
2105.05233, Algorithm 1).
"""

import jax.numpy as jnp
from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion import variance as variances
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.forward_process import posterior
from unclip_jax.diffusion.samplers.sampler import Noise, SamplerState, predict, start
from unclip_jax.diffusion.schedule import Schedule


@struct.dataclass
class Ancestral:
    """Ancestral sampler.

    Paths must descend. The last step, to -1, adds no noise.

    Attributes:
      schedule: The noise schedule.
      variance: Reverse variance, one of `variance.VARIANCES`.

    Raises:
      ValueError: If `variance` is unknown.
    """

    schedule: Schedule
    variance: str = struct.field(pytree_node=False, default="fixed_small")

    def __post_init__(self):
        variances.check_variance(self.variance)

    def init(self, x: Float["B ..."]) -> SamplerState:
        """Returns the state before the first step, at x_T."""
        return start(x)

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        """Takes one step from t to t_next."""
        prediction = predict(denoiser, state.x, t)
        mean, _ = posterior(self.schedule, prediction.x0, state.x, t, t_next)
        log_variance = variances.log_variance(self.variance, self.schedule, prediction, t, t_next)
        if prediction.gradient is not None:
            mean = mean + jnp.exp(log_variance) * prediction.gradient
        draw = state.draws + 1
        noisy = mean + jnp.exp(0.5 * log_variance) * noise(draw, t, t_next)
        return state.replace(x=jnp.where(t_next < 0, mean, noisy), x0=prediction.x0, draws=draw)

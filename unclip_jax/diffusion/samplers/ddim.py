"""DDIM (Song et al. 2020, arXiv 2010.02502).

The step from t to t_next (Eq. 12 and 16) is

    sigma  = eta sqrt( (1 - alpha_bar_next) / (1 - alpha_bar_t) ) sqrt( 1 - alpha_bar_t / alpha_bar_next )
    x_next = sqrt(alpha_bar_next) x_0 + sqrt(1 - alpha_bar_next - sigma^2) eps + sigma noise

where t and t_next need not be adjacent training steps.
"""

import jax.numpy as jnp
from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import absorb_gradient
from unclip_jax.diffusion.samplers.sampler import Noise, SamplerState, predict, start
from unclip_jax.diffusion.schedule import Schedule


@struct.dataclass
class DDIM:
    """DDIM sampler.

    Paths may ascend (inversion). Ascending steps are deterministic for any eta. A prediction's gradient is applied to
    eps (Dhariwal and Nichol 2021, Algorithm 2).

    Attributes:
      schedule: The noise schedule.
      eta: Stochasticity in [0, 1]. 0 is deterministic, 1 is ancestral sampling with "fixed_small" variance. May be
        traced.
    """

    schedule: Schedule
    eta: Float[""] | float = 0.0

    def init(self, x: Float["B ..."]) -> SamplerState:
        """Returns the state before the first step, at x_T."""
        return start(x)

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        """Takes one step from t to t_next."""
        schedule = self.schedule
        prediction = absorb_gradient(predict(denoiser, state.x, t), schedule=schedule, t=t)
        noise_t, noise_next = schedule.one_minus_alpha_bar(t), schedule.one_minus_alpha_bar(t_next)
        # Ascending steps have a negative beta and add no noise.
        beta = jnp.maximum(schedule.beta(t, t_next), 0.0)
        variance = self.eta**2 * noise_next / noise_t * beta
        of_eps = jnp.sqrt(jnp.maximum(noise_next - variance, 0.0))
        draw = state.draws + 1
        x = schedule.signal_scale(t_next) * prediction.x0 + of_eps * prediction.eps
        return state.replace(x=x + jnp.sqrt(variance) * noise(draw, t, t_next), x0=prediction.x0, draws=draw)

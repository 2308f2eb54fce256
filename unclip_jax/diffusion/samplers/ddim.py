"""DDIM (arXiv 2010.02502), Eq. 12 and 16, between any two steps:

    sigma  = eta sqrt( (1 - alpha_bar_next) / (1 - alpha_bar_t) ) sqrt( 1 - alpha_bar_t / alpha_bar_next )
    x_next = sqrt(alpha_bar_next) x_0 + sqrt(1 - alpha_bar_next - sigma^2) eps + sigma noise
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
    """Eta is a number in [0, 1] that may be traced: 0 is deterministic, 1 ancestral sampling with fixed small variance.

    A path may ascend (inversion); a step up is deterministic whatever eta is. A prediction's gradient is taken into eps
    (ADM, Algorithm 2).
    """

    schedule: Schedule
    eta: Float[""] | float = 0.0

    def init(self, x: Float["B ..."]) -> SamplerState:
        return start(x)

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        schedule = self.schedule
        prediction = absorb_gradient(predict(denoiser, state.x, t), schedule=schedule, t=t)
        noise_t, noise_next = schedule.one_minus_alpha_bar(t), schedule.one_minus_alpha_bar(t_next)
        # a step up has a negative beta, and nothing to draw
        beta = jnp.maximum(schedule.beta(t, t_next), 0.0)
        variance = self.eta**2 * noise_next / noise_t * beta
        of_eps = jnp.sqrt(jnp.maximum(noise_next - variance, 0.0))
        draw = state.draws + 1
        x = schedule.signal_scale(t_next) * prediction.x0 + of_eps * prediction.eps
        return state.replace(x=x + jnp.sqrt(variance) * noise(draw, t, t_next), x0=prediction.x0, draws=draw)

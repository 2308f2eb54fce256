"""DPM-Solver++(2M) (arXiv 2211.01095, Algorithm 2): the deterministic ODE of DDIM, to second order.

With lambda = log( sqrt(alpha_bar / (1 - alpha_bar)) ), h = lambda_next - lambda_t and h_last that of the step before,

    D      = x_0 + h / (2 h_last) (x_0 - x_0 of the step before)
    x_next = sqrt(1 - alpha_bar_next) / sqrt(1 - alpha_bar_t) x_t - sqrt(alpha_bar_next) (exp(-h) - 1) D

The first step has no step before it, and to clean (-1) h is infinite: both take D = x_0, which is DDIM.
"""

import jax.numpy as jnp
from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import absorb_gradient
from unclip_jax.diffusion.samplers.sampler import Noise, SamplerState, predict, start
from unclip_jax.diffusion.schedule import Schedule

# Nothing is extrapolated from a step with less signal than this: at the noisy end of the cosine schedule a single
# training step is as long in lambda as half of the path.
LEAST_LAMBDA = -5.1


@struct.dataclass
class DPMSolver:
    """Draws nothing. A path may ascend (inversion). The history is the lambda of the last step.

    A prediction's gradient is taken into x_0, as by DDIM.
    """

    schedule: Schedule

    def init(self, x: Float["B ..."]) -> SamplerState:
        return start(x).replace(history=jnp.float32(-jnp.inf))

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        schedule = self.schedule
        prediction = absorb_gradient(predict(denoiser, state.x, t), schedule=schedule, t=t)
        last_lambda = state.history
        now, following = 0.5 * schedule.log_snr(t), 0.5 * schedule.log_snr(t_next)  # lambda
        h, h_last = following - now, now - last_lambda
        first_order = (last_lambda < LEAST_LAMBDA) | (t_next < 0)
        weight = jnp.where(first_order, 0.0, h / (2.0 * jnp.where(first_order, 1.0, h_last)))
        d = prediction.x0 + weight * (prediction.x0 - state.x0)
        of_x = schedule.noise_scale(t_next) / schedule.noise_scale(t)
        of_d = -schedule.signal_scale(t_next) * jnp.expm1(-h)
        x = of_x * state.x + of_d * d
        return state.replace(x=x, x0=prediction.x0, draws=state.draws + 1, history=now)

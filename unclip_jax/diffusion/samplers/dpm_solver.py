"""DPM-Solver++(2M), a deterministic second-order solver for DDIM's ODE.

This is Algorithm 2 of Lu et al. (2022, arXiv 2211.01095):

    lambda = log( sqrt(alpha_bar / (1 - alpha_bar)) ),   h = lambda_next - lambda_t,   h_last = h of the previous step
    D      = x_0 + h / (2 h_last) (x_0 - x_0 of the previous step)
    x_next = sqrt(1 - alpha_bar_next) / sqrt(1 - alpha_bar_t) x_t - sqrt(alpha_bar_next) (exp(-h) - 1) D

The first step has no previous step, and h is infinite in the last step, to -1. Both use D = x_0, which is DDIM. So does
a step whose previous step started at a lambda below `MIN_LAMBDA`.
"""

import jax.numpy as jnp
from flax import struct

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import absorb_gradient
from unclip_jax.diffusion.samplers.sampler import Noise, SamplerState, predict, start
from unclip_jax.diffusion.schedule import Schedule

# Do not extrapolate from a previous step that started at a smaller lambda. At the noisy end of the cosine schedule, a
# single training step is as long in lambda as half of the path.
MIN_LAMBDA = -5.1


@struct.dataclass
class DPMSolver:
    """DPM-Solver++(2M) sampler.

    It is deterministic, and paths may ascend (inversion). The history in its state is the lambda of the previous step.
    A prediction's gradient is applied as in DDIM.

    Attributes:
      schedule: The noise schedule.
    """

    schedule: Schedule

    def init(self, x: Float["B ..."]) -> SamplerState:
        """Returns the state before the first step, at x_T."""
        return start(x).replace(history=jnp.float32(-jnp.inf))

    def step(self, denoiser: Denoiser, state: SamplerState, t: Int[""], t_next: Int[""], noise: Noise) -> SamplerState:
        """Takes one step from t to t_next, without using `noise`."""
        schedule = self.schedule
        prediction = absorb_gradient(predict(denoiser, state.x, t), schedule=schedule, t=t)
        last_lambda = state.history
        now, following = 0.5 * schedule.log_snr(t), 0.5 * schedule.log_snr(t_next)  # lambda
        h, h_last = following - now, now - last_lambda
        first_order = (last_lambda < MIN_LAMBDA) | (t_next < 0)
        weight = jnp.where(first_order, 0.0, h / (2.0 * jnp.where(first_order, 1.0, h_last)))
        d = prediction.x0 + weight * (prediction.x0 - state.x0)
        of_x = schedule.noise_scale(t_next) / schedule.noise_scale(t)
        of_d = -schedule.signal_scale(t_next) * jnp.expm1(-h)
        x = of_x * state.x + of_d * d
        return state.replace(x=x, x0=prediction.x0, draws=state.draws + 1, history=now)

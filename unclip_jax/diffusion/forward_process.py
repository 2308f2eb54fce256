"""The forward process q and its posterior, in closed form (DDPM, arXiv 2006.11239)."""

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion import variance
from unclip_jax.diffusion.schedule import Schedule, per_row


def q_sample(schedule: Schedule, x0: Float["B ..."], t: Int["B"], noise: Float["B ..."]) -> Float["B ..."]:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, DDPM's Eq. 4. t is one step a row, or a scalar."""
    return per_row(schedule.signal_scale(t), x0) * x0 + per_row(schedule.noise_scale(t), x0) * noise


def posterior(
    schedule: Schedule, x0: Float["B ..."], x_t: Float["B ..."], t: Int["B"], t_next: Int["B"]
) -> tuple[Float["B ..."], Float["B ..."]]:
    """q(x_next | x_t, x_0), DDPM's Eq. 6 and 7 with beta formed from the pair (t, t_next).

    Args:
      t, t_next: steps, t_next the cleaner one; one a row or scalars. At t_next = -1 the mean is x0.

    Returns:
      The mean, and the log variance with axes of length 1 (at t_next = -1 that of `variance.fixed_small`, not -inf).
    """
    noise_t = schedule.one_minus_alpha_bar(t)
    noise_next = schedule.one_minus_alpha_bar(t_next)
    of_x0 = schedule.signal_scale(t_next) * schedule.beta(t, t_next) / noise_t
    of_x_t = jnp.exp(0.5 * schedule.log_alpha(t, t_next)) * noise_next / noise_t
    mean = per_row(of_x0, x0) * x0 + per_row(of_x_t, x_t) * x_t
    return mean, per_row(variance.fixed_small(schedule, t, t_next), x0)

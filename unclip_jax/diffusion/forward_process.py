"""Forward process q and its posterior in closed form (Ho et al. 2020, arXiv 2006.11239)."""

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion import variance
from unclip_jax.diffusion.schedule import Schedule, per_row


def q_sample(schedule: Schedule, x0: Float["B ..."], t: Int["B"], noise: Float["B ..."]) -> Float["B ..."]:
    """Samples x_t from q(x_t | x_0) (Ho et al. 2020, Eq. 4).

        x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise

    Args:
      schedule: The noise schedule.
      x0: Clean samples.
      t: One step per row, or a scalar.
      noise: Standard normal noise.
    """
    return per_row(schedule.signal_scale(t), x0) * x0 + per_row(schedule.noise_scale(t), x0) * noise


def posterior(
    schedule: Schedule, x0: Float["B ..."], x_t: Float["B ..."], t: Int["B"], t_next: Int["B"]
) -> tuple[Float["B ..."], Float["B ..."]]:
    """Computes the posterior q(x_next | x_t, x_0) (Ho et al. 2020, Eq. 6 and 7).

    beta is computed from the pair (t, t_next), so the steps need not be adjacent.

    Args:
      schedule: The noise schedule.
      x0: Clean samples.
      x_t: Noisy samples at step t.
      t: One step per row, or a scalar.
      t_next: The cleaner step. At -1 the mean is x0.

    Returns:
      The mean, and the log variance with trailing axes of length 1. At t_next = -1 the log variance is the finite value
      of `variance.fixed_small`.
    """
    noise_t = schedule.one_minus_alpha_bar(t)
    noise_next = schedule.one_minus_alpha_bar(t_next)
    of_x0 = schedule.signal_scale(t_next) * schedule.beta(t, t_next) / noise_t
    of_x_t = jnp.exp(0.5 * schedule.log_alpha(t, t_next)) * noise_next / noise_t
    mean = per_row(of_x0, x0) * x0 + per_row(of_x_t, x_t) * x_t
    return mean, per_row(variance.fixed_small(schedule, t, t_next), x0)

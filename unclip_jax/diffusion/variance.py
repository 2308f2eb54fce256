"""Log variances of the reverse step from t to t_next.

They are computed from the pair of steps that is actually taken. With the betas of the training schedule, the standard
deviation of a path of 25 steps would be six times too small.
"""

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.schedule import Schedule, per_row


def fixed_small(schedule: Schedule, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
    """Computes the log of the posterior variance (Ho et al. 2020, arXiv 2006.11239, Eq. 7).

    The variance is (1 - alpha_bar_next) / (1 - alpha_bar_t) beta. It would be 0 at t_next = -1, where the variance of
    the training step from 1 to 0 is used instead, as in the code of Improved DDPM.

    Args:
      schedule: The noise schedule.
      t: The noisier step.
      t_next: The cleaner step.
    """
    t, t_next = jnp.asarray(t), jnp.asarray(t_next)
    t, t_next = jnp.where(t_next < 0, 1, t), jnp.where(t_next < 0, 0, t_next)
    return (
        jnp.log(schedule.one_minus_alpha_bar(t_next))
        - jnp.log(schedule.one_minus_alpha_bar(t))
        + jnp.log(schedule.beta(t, t_next))
    )


def fixed_large(schedule: Schedule, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
    """Computes log beta, the larger fixed variance of DDPM (Ho et al. 2020, Section 3.2).

    At t_next = -1 the result is that of `fixed_small`, as in DDPM's code. For the likelihood of this last step, beta
    would be far too large.

    Args:
      schedule: The noise schedule.
      t: The noisier step.
      t_next: The cleaner step.
    """
    t, t_next = jnp.asarray(t), jnp.asarray(t_next)
    return jnp.where(t_next < 0, fixed_small(schedule, t, t_next), jnp.log(schedule.beta(t, t_next)))


def learned_range(schedule: Schedule, fraction: Float["B ..."], t: Int["B"], t_next: Int["B"]) -> Float["B ..."]:
    """Interpolates between the log variances `fixed_small` and log beta.

    This is Eq. 15 of Improved DDPM (Nichol and Dhariwal 2021, arXiv 2102.09672).

    Args:
      schedule: The noise schedule.
      fraction: 0 selects `fixed_small`, 1 selects log beta. Not restricted to [0, 1].
      t: The noisier step.
      t_next: The cleaner step.
    """
    upper = per_row(jnp.log(schedule.beta(t, t_next)), fraction)
    lower = per_row(fixed_small(schedule, t, t_next), fraction)
    return fraction * upper + (1.0 - fraction) * lower


FIXED = {"fixed_small": fixed_small, "fixed_large": fixed_large}
VARIANCES = (*FIXED, "learned_range")


def log_variance(
    variance: str, schedule: Schedule, prediction: Prediction, t: Int["B"], t_next: Int["B"]
) -> Float["B ..."]:
    """Computes a log variance that broadcasts against x_t.

    Args:
      variance: One of `VARIANCES`.
      schedule: The noise schedule.
      prediction: Prediction at t. "learned_range" requires its variance fraction.
      t: The noisier step.
      t_next: The cleaner step.

    Raises:
      ValueError: If `variance` is unknown, or is "learned_range" and the network does not predict it.
    """
    check_variance(variance)
    if variance in FIXED:
        return per_row(FIXED[variance](schedule, t, t_next), prediction.x0)
    if prediction.variance_fraction is None:
        raise ValueError(
            "variance 'learned_range' requires a network that predicts the variance (twice the output channels). "
            "Use 'fixed_small' instead."
        )
    return learned_range(schedule, prediction.variance_fraction, t, t_next)


def check_variance(variance: str) -> None:
    """Raises ValueError if `variance` is not one of `VARIANCES`."""
    if variance not in VARIANCES:
        raise ValueError(f"variance must be one of {', '.join(VARIANCES)}, got {variance!r}.")

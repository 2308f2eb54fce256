"""Variances of the reverse step from t to t_next, as logarithms.

All are formed from the pair of steps that is really taken: formed from the training schedule's own betas, the deviation
of a path of 25 steps would be six times too small.
"""

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.schedule import Schedule, per_row


def fixed_small(schedule: Schedule, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
    """log of the posterior's variance (1 - alpha_bar_next) / (1 - alpha_bar_t) beta, DDPM's Eq. 7.

    It is 0 at t_next = -1, where that of the training schedule's second step (1 to 0) stands in for it, as in Improved
    DDPM's code. t_next must be cleaner than t.
    """
    t, t_next = jnp.asarray(t), jnp.asarray(t_next)
    t, t_next = jnp.where(t_next < 0, 1, t), jnp.where(t_next < 0, 0, t_next)
    return (
        jnp.log(schedule.one_minus_alpha_bar(t_next))
        - jnp.log(schedule.one_minus_alpha_bar(t))
        + jnp.log(schedule.beta(t, t_next))
    )


def fixed_large(schedule: Schedule, t: Int["B"], t_next: Int["B"]) -> Float["B"]:
    """log beta, DDPM's other choice; towards clean that of `fixed_small`, as in DDPM's code: beta would be far too much
    for the likelihood of the last step."""
    t, t_next = jnp.asarray(t), jnp.asarray(t_next)
    return jnp.where(t_next < 0, fixed_small(schedule, t, t_next), jnp.log(schedule.beta(t, t_next)))


def learned_range(schedule: Schedule, fraction: Float["B ..."], t: Int["B"], t_next: Int["B"]) -> Float["B ..."]:
    """Between the bounds log beta (fraction 1) and `fixed_small` (fraction 0), Improved DDPM's Eq. 15."""
    upper = per_row(jnp.log(schedule.beta(t, t_next)), fraction)
    lower = per_row(fixed_small(schedule, t, t_next), fraction)
    return fraction * upper + (1.0 - fraction) * lower


FIXED = {"fixed_small": fixed_small, "fixed_large": fixed_large}
VARIANCES = (*FIXED, "learned_range")


def log_variance(
    variance: str, schedule: Schedule, prediction: Prediction, t: Int["B"], t_next: Int["B"]
) -> Float["B ..."]:
    """The log variance of one of `VARIANCES`, of a shape that broadcasts against x_t."""
    check_variance(variance)
    if variance in FIXED:
        return per_row(FIXED[variance](schedule, t, t_next), prediction.x0)
    if prediction.variance_fraction is None:
        raise ValueError(
            "variance is 'learned_range', but the network predicts none: "
            "it must answer twice the channels, or the variance be 'fixed_small'."
        )
    return learned_range(schedule, prediction.variance_fraction, t, t_next)


def check_variance(variance: str) -> None:
    if variance not in VARIANCES:
        raise ValueError(f"variance is {variance!r}: the known ones are {', '.join(VARIANCES)}.")

"""Keeping the predicted picture within the range that pictures have. Comes after guidance, which leaves it."""

from collections.abc import Callable

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction, x0_to_eps
from unclip_jax.diffusion.schedule import Schedule, per_row


def clipped(denoiser: Denoiser, *, schedule: Schedule, limit: float | None) -> Denoiser:
    """x0 clipped to [-limit, limit] and eps derived from it anew; with limit None the denoiser as it is."""
    if limit is None:
        return denoiser

    return _bounded(denoiser, schedule, lambda x0: jnp.clip(x0, -limit, limit))


def dynamically_thresholded(
    denoiser: Denoiser, *, schedule: Schedule, percentile: Float[""] | float, cap: Float[""] | float
) -> Denoiser:
    """x0 clipped to [-s, s] and divided by s, where s is a percentile of |x0| in each row, at least 1 (Imagen, arXiv
    2205.11487, section 2.3); eps is derived anew.

    Args:
      percentile: in (0, 100]; Imagen's figure has 99.5.
      cap: s is never larger, at least 1. At 1 this is clipping to [-1, 1]. Both may be traced.
    """

    def bound(x0: Float["B ..."]) -> Float["B ..."]:
        rows = jnp.abs(x0).reshape(x0.shape[0], -1)
        s = per_row(jnp.clip(jnp.percentile(rows, percentile, axis=1), 1.0, cap), x0)
        return jnp.clip(x0, -s, s) / s

    return _bounded(denoiser, schedule, bound)


def _bounded(
    denoiser: Denoiser, schedule: Schedule, bound: Callable[[Float["B ..."]], Float["B ..."]]
) -> Denoiser:
    """The denoiser with `bound` applied to its x0, and eps derived from that anew."""

    def bounded(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        prediction = denoiser(x_t, t)
        x0 = bound(prediction.x0)
        return prediction.replace(x0=x0, eps=x0_to_eps(schedule, x0, x_t, t))

    return bounded

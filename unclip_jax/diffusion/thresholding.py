"""Thresholding: keeps the predicted clean sample within its valid range.

Guidance and denoiser transforms can leave that range, so thresholding is applied after all of them. Where x0 does not
change, eps does not change either. Where it does, eps is rederived from the new x0, element by element, so that both
again describe the same x_t.
"""

from collections.abc import Callable

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction, x0_to_eps
from unclip_jax.diffusion.schedule import Schedule, per_row


def clipped(denoiser: Denoiser, *, schedule: Schedule, limit: float | None) -> Denoiser:
    """Clips x0 to [-limit, limit] and rederives eps where x0 changed. If `limit` is None, returns `denoiser`."""
    if limit is None:
        return denoiser

    return _bounded(denoiser, schedule, lambda x0: jnp.clip(x0, -limit, limit))


def dynamically_thresholded(
    denoiser: Denoiser, *, schedule: Schedule, percentile: Float[""] | float, cap: Float[""] | float
) -> Denoiser:
    """Clips x0 to [-s, s], divides it by s, and rederives eps where x0 changed.

    s is a percentile of |x0| in each row, at least 1 (Imagen, arXiv 2205.11487, section 2.3). In rows with s = 1, only
    elements outside [-1, 1] change.

    Args:
      denoiser: Predicts x0 after guidance.
      schedule: Noise schedule of `denoiser`.
      percentile: In (0, 100]; 99.5 in Imagen's figure. May be traced.
      cap: Largest value of s, at least 1. At 1 this is clipping to [-1, 1]. May be traced.
    """

    def bound(x0: Float["B ..."]) -> Float["B ..."]:
        rows = jnp.abs(x0).reshape(x0.shape[0], -1)
        s = per_row(jnp.clip(jnp.percentile(rows, percentile, axis=1), 1.0, cap), x0)
        return jnp.clip(x0, -s, s) / s

    return _bounded(denoiser, schedule, bound)


def _bounded(
    denoiser: Denoiser, schedule: Schedule, bound: Callable[[Float["B ..."]], Float["B ..."]]
) -> Denoiser:
    """Applies `bound` to the x0 of the denoiser, and rederives eps in the elements that this changed."""

    def bounded(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        prediction = denoiser(x_t, t)
        x0 = bound(prediction.x0)
        eps = jnp.where(x0 == prediction.x0, prediction.eps, x0_to_eps(schedule, x0, x_t, t))
        return prediction.replace(x0=x0, eps=eps)

    return bounded

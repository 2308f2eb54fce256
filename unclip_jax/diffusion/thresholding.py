"""Static and dynamic thresholding of the predicted clean sample.

Guidance and denoiser transforms can move x0 out of its valid range, so thresholding is applied after all of them. In
every element that thresholding changes, eps is recomputed from the new x0, so that both describe the same x_t. All
other elements of eps stay as they are.
"""

from collections.abc import Callable

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction, x0_to_eps
from unclip_jax.diffusion.schedule import Schedule, per_row


def clipped(denoiser: Denoiser, *, schedule: Schedule, limit: float | None) -> Denoiser:
    """Clips x0 to [-limit, limit] and recomputes eps accordingly.

    Args:
      denoiser: Predicts x0 after guidance.
      schedule: Noise schedule of `denoiser`.
      limit: Largest |x0|. If None, `denoiser` is returned unchanged.
    """
    if limit is None:
        return denoiser

    return _bounded(denoiser, schedule, lambda x0: jnp.clip(x0, -limit, limit))


def dynamically_thresholded(
    denoiser: Denoiser, *, schedule: Schedule, percentile: Float[""] | float, cap: Float[""] | float
) -> Denoiser:
    """Clips x0 to [-s, s], divides it by s and recomputes eps accordingly.

    s is a percentile of |x0| in each row, and at least 1 (Saharia et al. 2022, arXiv 2205.11487, Section 2.3). In rows
    with s = 1, only elements outside [-1, 1] change.

    Args:
      denoiser: Predicts x0 after guidance.
      schedule: Noise schedule of `denoiser`.
      percentile: Percentile in (0, 100]. Imagen's figure uses 99.5. May be traced.
      cap: Largest value of s, at least 1. A value of 1 is equivalent to clipping to [-1, 1]. May be traced.
    """

    def bound(x0: Float["B ..."]) -> Float["B ..."]:
        rows = jnp.abs(x0).reshape(x0.shape[0], -1)
        s = per_row(jnp.clip(jnp.percentile(rows, percentile, axis=1), 1.0, cap), x0)
        return jnp.clip(x0, -s, s) / s

    return _bounded(denoiser, schedule, bound)


def _bounded(denoiser: Denoiser, schedule: Schedule, bound: Callable[[Float["B ..."]], Float["B ..."]]) -> Denoiser:
    """Applies `bound` to x0 and recomputes eps in the elements that changed."""

    def bounded(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        prediction = denoiser(x_t, t)
        x0 = bound(prediction.x0)
        eps = jnp.where(x0 == prediction.x0, prediction.eps, x0_to_eps(schedule, x0, x_t, t))
        return prediction.replace(x0=x0, eps=eps)

    return bounded

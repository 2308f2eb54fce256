"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598) in one batched pass.

In the convention of GLIDE and unCLIP, the guided prediction is

    p = p_u + s (p_c - p_u)

where p_c is the conditional and p_u the unconditional prediction. s = 1 disables guidance.
"""

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.schedule import Schedule, per_row

ALWAYS = (0, 2**31 - 1)


def classifier_free(
    stacked: Denoiser,
    *,
    scale: Float["B"] | float,
    interval: tuple[Int[""] | int, Int[""] | int] = ALWAYS,
    rescale: Float[""] | float | None = None,
    schedule: Schedule | None = None,
) -> Denoiser:
    """Returns a denoiser that calls `stacked` once on doubled rows and combines its two halves.

    x0 and eps are extrapolated separately. If x0 were computed from the extrapolated eps, it would lose three digits at
    t = 999. The variance fraction and the gradient are those of the conditional half.

    Args:
      stacked: Denoiser of 2B rows, conditional rows first. Its conditions also have 2B rows.
      scale: Guidance scale s, a scalar or one per row. May be traced. At 1 the unconditional half has no effect; call
        the conditional denoiser directly instead.
      interval: First and last training step with guidance (Kynkäänniemi et al. 2024, arXiv 2404.07724). At other steps
        the prediction is the conditional one. May be traced.
      rescale: Weight phi in [0, 1] of the guided x0 rescaled to the standard deviation of the conditional x0, per row
        (Lin et al. 2023, arXiv 2305.08891, Section 3.4). eps is adjusted accordingly. Lin et al. recommend 0.7 against
        overexposed images. May be traced. 0 or None disables it.
      schedule: The noise schedule. Only required with `rescale`.

    Raises:
      ValueError: If `rescale` is set and `schedule` is None.
    """
    if rescale is not None and schedule is None:
        raise ValueError("schedule must be set if rescale is set.")
    first, last = interval

    def denoiser(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        both = stacked(jnp.concatenate([x_t, x_t]), jnp.concatenate([t, t]))
        rows = x_t.shape[0]
        conditional = jax.tree.map(lambda p: p[:rows], both)
        unconditional = jax.tree.map(lambda p: p[rows:], both)

        s = jnp.where((t >= first) & (t <= last), scale, 1.0)

        def extrapolated(c: Float["B ..."], u: Float["B ..."]) -> Float["B ..."]:
            return u + per_row(s, c) * (c - u)

        x0 = extrapolated(conditional.x0, unconditional.x0)
        eps = extrapolated(conditional.eps, unconditional.eps)
        if rescale is not None:
            change = rescale * (_std(conditional.x0) / jnp.maximum(_std(x0), 1e-8) - 1.0) * x0
            ratio = schedule.signal_scale(t) / schedule.noise_scale(t)
            x0, eps = x0 + change, eps - per_row(ratio, eps) * change  # both still describe the same x_t
        return conditional.replace(x0=x0, eps=eps)

    return denoiser


def _std(x: Float["B ..."]) -> Float["B ..."]:
    """Computes the standard deviation of each row, with trailing axes of length 1."""
    return jnp.std(x, axis=tuple(range(1, x.ndim)), keepdims=True)

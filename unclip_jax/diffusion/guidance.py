"""Classifier-free guidance (arXiv 2207.12598) in one batched pass, in GLIDE's and unCLIP's convention:

    p = p_u + s (p_c - p_u)

where p_c is predicted with the conditions and p_u without, and s = 1 is unguided.
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
    """Doubles x_t, asks `stacked` once for both halves, and extrapolates from the unconditional to the conditional.

    x0 and eps are both extrapolated, and neither is derived from the other: from eps, x0 would lose three digits at
    t = 999. The variance fraction and the gradient are the conditional half's.

    Args:
      stacked: a denoiser of 2B rows whose conditions are 2B rows too, the conditional half first.
      scale: s, a number or one a row; it may be traced. At 1 the unconditional half is computed in vain: then use the
        conditional denoiser itself.
      interval: first and last step t of the training schedule at which there is guidance; at the others the answer is
        the conditional one (arXiv 2404.07724, which guides in the middle). May be traced.
      rescale: phi in [0, 1] of arXiv 2305.08891, section 3.4: the guided x0 is mixed, phi to 1 - phi, with one that has
        the deviation of the conditional x0 in each row, and eps follows it. 0 changes nothing; 0.7 is advised against
        pictures that guidance makes too bright. May be traced. None: not at all.
      schedule: needed with `rescale` and nowhere else.
    """
    if rescale is not None and schedule is None:
        raise ValueError("rescale needs the schedule too: eps follows a rescaled x0 through it.")
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
            more = rescale * (_deviation(conditional.x0) / jnp.maximum(_deviation(x0), 1e-8) - 1.0) * x0
            ratio = schedule.signal_scale(t) / schedule.noise_scale(t)
            x0, eps = x0 + more, eps - per_row(ratio, eps) * more  # x_t stays what they make together
        return conditional.replace(x0=x0, eps=eps)

    return denoiser


def _deviation(x: Float["B ..."]) -> Float["B ..."]:
    """Standard deviation of each row, with axes of length 1."""
    return jnp.std(x, axis=tuple(range(1, x.ndim)), keepdims=True)

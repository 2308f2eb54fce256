"""Classifier-free guidance (arXiv 2207.12598) in one batched pass, in GLIDE's and unCLIP's convention:

    p = p_u + s (p_c - p_u)

where p_c is predicted with the conditions and p_u without, and s = 1 is unguided.
"""

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction
from unclip_jax.diffusion.schedule import per_row


def classifier_free(stacked: Denoiser, *, scale: Float["B"] | float) -> Denoiser:
    """Doubles x_t, asks `stacked` once for both halves, and extrapolates from the unconditional to the conditional.

    x0 and eps are both extrapolated, and neither is derived from the other: from eps, x0 would lose three digits at
    t = 999. The variance fraction and the gradient are the conditional half's.

    Args:
      stacked: a denoiser of 2B rows whose conditions are 2B rows too, the conditional half first.
      scale: s, a number or one a row; it may be traced. At 1 the unconditional half is computed in vain: then use the
        conditional denoiser itself.
    """

    def denoiser(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        both = stacked(jnp.concatenate([x_t, x_t]), jnp.concatenate([t, t]))
        rows = x_t.shape[0]
        conditional = jax.tree.map(lambda p: p[:rows], both)
        unconditional = jax.tree.map(lambda p: p[rows:], both)

        def extrapolated(c: Float["B ..."], u: Float["B ..."]) -> Float["B ..."]:
            return u + per_row(scale, c) * (c - u)

        return conditional.replace(
            x0=extrapolated(conditional.x0, unconditional.x0),
            eps=extrapolated(conditional.eps, unconditional.eps),
        )

    return denoiser

"""Keeping the predicted picture within the range that pictures have. Comes after guidance, which leaves it."""

import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.prediction import Prediction, x0_to_eps
from unclip_jax.diffusion.schedule import Schedule


def clipped(denoiser: Denoiser, *, schedule: Schedule, limit: float | None) -> Denoiser:
    """x0 clipped to [-limit, limit] and eps derived from it anew; with limit None the denoiser as it is."""
    if limit is None:
        return denoiser

    def clipping(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        prediction = denoiser(x_t, t)
        x0 = jnp.clip(prediction.x0, -limit, limit)
        return prediction.replace(x0=x0, eps=x0_to_eps(schedule, x0, x_t, t))

    return clipping

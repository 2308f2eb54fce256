"""Denoisers: from a network's raw output to a Prediction.

A Denoiser maps x_t and each row's step of the training schedule to a Prediction. Guidance and thresholding map
denoisers to denoisers; samplers call them; none of them knows the network.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.diffusion.prediction import Prediction, check_predicts, from_output
from unclip_jax.diffusion.schedule import Schedule

Denoiser = Callable[[Float["B ..."], Int["B"]], Prediction]
Network = Callable[[Float["B ..."], Int["B"]], jax.Array]


def denoiser_from_network(network: Network, *, schedule: Schedule, predicts: str) -> Denoiser:
    """A Denoiser around `network`, a function of (x_t, t "B") with its parameters and conditions already inside.

    Args:
      network: answers x_t's shape, or twice its channels (the last axis): then the second half is Improved DDPM's v, in
        about [-1, 1], and the prediction has a variance fraction.
      predicts: what the first half is, "eps", "x0", or the velocity "v".
    """
    check_predicts(predicts)

    def denoiser(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        x_t = x_t.astype(jnp.float32)
        output, fraction = split_output(network(x_t, t), x_t.shape[-1])
        return from_output(schedule, predicts, output, x_t, t).replace(variance_fraction=fraction)

    return denoiser


def split_output(output: jax.Array, channels: int) -> tuple[Float["B ... C"], Float["B ... C"] | None]:
    """A network's output in float32 as (prediction, variance fraction); the fraction is None without a second half."""
    output = output.astype(jnp.float32)  # a bfloat16 eps would leave x0 with no digit at large t
    if output.shape[-1] == channels:
        return output, None
    if output.shape[-1] != 2 * channels:
        raise ValueError(
            f"the network answers {output.shape[-1]} channels for {channels}: it must be {channels}, "
            f"or {2 * channels} with a learned variance."
        )
    prediction, v = jnp.split(output, 2, axis=-1)
    return prediction, (v + 1.0) / 2.0

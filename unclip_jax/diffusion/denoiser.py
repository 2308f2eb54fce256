"""Denoisers: functions that predict the clean sample and the noise in a noisy sample.

A Denoiser maps x_t and the training step of each row to a Prediction. Guidance and thresholding map denoisers to
denoisers, and samplers call them. None of them depends on the network.
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
    """Wraps a network as a Denoiser.

    Args:
      network: Function of (x_t, t) with its parameters and conditions already bound. Its output has the shape of x_t,
        or twice the channels (last axis). The second half is then the v of Improved DDPM (Nichol and Dhariwal 2021, Eq.
        15), roughly in [-1, 1], and the prediction has a variance fraction.
      schedule: Noise schedule that the network was trained with.
      predicts: Parameterization of the first half: "eps", "x0" or "v" (velocity).

    Raises:
      ValueError: If `predicts` is unknown. The denoiser raises it for any other number of output channels.
    """
    check_predicts(predicts)

    def denoiser(x_t: Float["B ..."], t: Int["B"]) -> Prediction:
        x_t = x_t.astype(jnp.float32)
        output, fraction = split_output(network(x_t, t), x_t.shape[-1])
        return from_output(schedule, predicts, output, x_t, t).replace(variance_fraction=fraction)

    return denoiser


def split_output(output: jax.Array, channels: int) -> tuple[Float["B ... C"], Float["B ... C"] | None]:
    """Splits a network's output into the prediction and the variance fraction, both float32.

    Args:
      output: The raw output.
      channels: Number of channels of x_t.

    Returns:
      The prediction and the variance fraction, which is None if the output has only `channels` channels.

    Raises:
      ValueError: If the output has neither `channels` nor `2 * channels` channels.
    """
    output = output.astype(jnp.float32)  # x0 computed from a bfloat16 eps would have no precision at large t
    if output.shape[-1] == channels:
        return output, None
    if output.shape[-1] != 2 * channels:
        raise ValueError(
            f"The network's output must have {channels} channels, or {2 * channels} with a learned variance, "
            f"got {output.shape[-1]}."
        )
    prediction, v = jnp.split(output, 2, axis=-1)
    return prediction, (v + 1.0) / 2.0

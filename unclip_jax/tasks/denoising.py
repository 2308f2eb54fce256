"""Shared parts of the denoising tasks: options, random steps and noise, and previews."""

import dataclasses

import jax
import jax.numpy as jnp

from unclip_jax import images, rng
from unclip_jax.arrays import Float, Int, Key, UInt8
from unclip_jax.diffusion import forward_process, thresholding
from unclip_jax.diffusion.denoiser import Network, denoiser_from_network
from unclip_jax.diffusion.samplers import sampler as sampling
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.diffusion.timesteps import even_path

PREVIEW_STEPS = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoisingOptions:
    """Options of every denoising task.

    Attributes:
      snr_clip: (low, high) of `losses.snr_weight`. If None, all steps have weight 1.
      logit_normal: (mean, standard deviation) of the logit of t / T, which is normally distributed (see `noised`). If
        None, t is uniform.

    Raises:
      ValueError: If an option is out of range.
    """

    snr_clip: tuple[float, float] | None = None
    logit_normal: tuple[float, float] | None = None

    def __post_init__(self):
        snr, normal = self.snr_clip, self.logit_normal
        if not (snr is None or (_is_pair(snr) and 0 <= snr[0] <= snr[1] > 0)):
            raise ValueError(f"snr_clip must be a lower and an upper limit, such as (0.0, 5.0), got {snr!r}.")
        if not (normal is None or (_is_pair(normal) and normal[1] > 0)):
            raise ValueError(
                f"logit_normal must be a mean and a standard deviation above 0, such as (0.0, 1.0), got {normal!r}."
            )


def check_share(name: str, value: float) -> None:
    """Raises ValueError if a fraction of rows is outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value!r}.")


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def noised(
    schedule: Schedule, x0: Float["B ..."], keys: Key["B"], *, logit_normal: tuple[float, float] | None = None
) -> tuple[Float["B ..."], Int["B"], Float["B ..."]]:
    """Draws a step t for each row and samples x_t from the forward process.

    Args:
      schedule: Noise schedule with T steps.
      x0: Clean samples.
      keys: One key per row.
      logit_normal: Mean and standard deviation of log(u / (1 - u)), which is normally distributed, where t = floor(u T)
        (Esser et al. 2024, arXiv 2403.03206, Section 3.1). Most rows then have the steps that matter most for learning.
        If None, t is uniform.

    Returns:
      x_t, t and the noise.
    """
    keys_of_t = rng.named_rows(keys, "time")
    if logit_normal is None:
        t = rng.randint_rows(keys_of_t, 0, schedule.num_steps)
    else:
        mean, std = logit_normal
        u = jax.nn.sigmoid(mean + std * rng.normal_rows(keys_of_t, ()))
        t = jnp.minimum((u * schedule.num_steps).astype(jnp.int32), schedule.num_steps - 1)
    noise = rng.normal_rows(rng.named_rows(keys, "noise"), x0.shape[1:])
    return forward_process.q_sample(schedule, x0, t, noise), t, noise


def preview(
    schedule: Schedule, network: Network, keys: Key["B"], shape: tuple[int, ...], *, predicts: str
) -> UInt8["B H W 3"]:
    """Samples images with 25 DDIM steps, or all steps of a shorter schedule, without guidance.

    Args:
      schedule: Noise schedule of the network.
      network: Function of (x_t, t) that returns the output of the network.
      keys: One key per image.
      shape: (H, W, 3).
      predicts: Parameterization of the output, one of `prediction.PREDICTS`.

    Raises:
      ValueError: If `predicts` is unknown.
    """
    denoiser = denoiser_from_network(network, schedule=schedule, predicts=predicts)
    denoiser = thresholding.clipped(denoiser, schedule=schedule, limit=1.0)
    noise = sampling.row_noise(rng.named_rows(keys, "preview"), shape)
    sampler = DDIM(schedule, 0.0)
    path = even_path(min(PREVIEW_STEPS, schedule.num_steps), schedule.num_steps)
    state = sampling.sample(sampler, denoiser, sampling.initial(sampler, noise, path[0]), path, noise)
    return images.to_uint8(state.x)

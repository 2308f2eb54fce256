"""What the denoising tasks share: the step and the noise of each row, and the pictures of a preview."""

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


def check_logit_normal(value: tuple[float, float] | None) -> None:
    """Raises ValueError for what is neither a mean and a positive deviation nor None."""
    if value is not None and not (isinstance(value, tuple | list) and len(value) == 2 and value[1] > 0):
        raise ValueError(f"logit_normal is {value!r}: a mean and a deviation above 0 are wanted, such as (0.0, 1.0)")


def check_snr_clip(value: tuple[float, float] | None) -> None:
    """Raises ValueError for what is neither two limits, the second above 0 and not below the first, nor None."""
    wanted = value is None or (isinstance(value, tuple | list) and len(value) == 2 and 0 <= value[0] <= value[1] > 0)
    if not wanted:
        raise ValueError(f"snr_clip is {value!r}: a lower and an upper limit are wanted, such as (0.0, 5.0), Min-SNR")


def check_share(name: str, value: float) -> None:
    """Raises ValueError for a share of rows that is outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value!r}: a share of the rows, from 0 to 1, is wanted")


def noised(
    schedule: Schedule, x0: Float["B ..."], keys: Key["B"], *, logit_normal: tuple[float, float] | None = None
) -> tuple[Float["B ..."], Int["B"], Float["B ..."]]:
    """A step drawn for each row, and x0 noised to it: (x_t, t, noise).

    Args:
      logit_normal: mean and deviation of log(u / (1 - u)), normally distributed, where t = floor(u T) (Esser et al.
        2024, arXiv 2403.03206, section 3.1): most rows then learn from the steps that matter. None: u is uniform.
    """
    keys_of_t = rng.named_rows(keys, "time")
    if logit_normal is None:
        t = rng.randint_rows(keys_of_t, 0, schedule.num_steps)
    else:
        mean, deviation = logit_normal
        u = jax.nn.sigmoid(mean + deviation * rng.normal_rows(keys_of_t, ()))
        t = jnp.minimum((u * schedule.num_steps).astype(jnp.int32), schedule.num_steps - 1)
    noise = rng.normal_rows(rng.named_rows(keys, "noise"), x0.shape[1:])
    return forward_process.q_sample(schedule, x0, t, noise), t, noise


def preview(
    schedule: Schedule, network: Network, keys: Key["B"], shape: tuple[int, ...], *, predicts: str
) -> UInt8["B H W 3"]:
    """Pictures of `shape` by 25 DDIM steps, unguided: what the bare network has learned."""
    denoiser = denoiser_from_network(network, schedule=schedule, predicts=predicts)
    denoiser = thresholding.clipped(denoiser, schedule=schedule, limit=1.0)
    noise = sampling.row_noise(rng.named_rows(keys, "preview"), shape)
    sampler = DDIM(schedule, 0.0)
    path = even_path(PREVIEW_STEPS, schedule.num_steps)
    state = sampling.sample(sampler, denoiser, sampling.initial(sampler, noise, path[0]), path, noise)
    return images.to_uint8(state.x)

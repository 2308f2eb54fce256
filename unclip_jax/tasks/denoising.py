"""What the denoising tasks share: the step and the noise of each row, and the pictures of a preview."""

from unclip_jax import images, rng
from unclip_jax.arrays import Float, Int, Key, UInt8
from unclip_jax.diffusion import process, thresholding
from unclip_jax.diffusion.denoiser import Network, denoiser_from_network
from unclip_jax.diffusion.samplers import sampler as sampling
from unclip_jax.diffusion.samplers.ddim import DDIM
from unclip_jax.diffusion.schedule import Schedule
from unclip_jax.diffusion.timesteps import even_path

PREVIEW_STEPS = 25


def noised(schedule: Schedule, x0: Float["B ..."], keys: Key["B"]) -> tuple[Float["B ..."], Int["B"], Float["B ..."]]:
    """A uniformly drawn step for each row, and x0 noised to it: (x_t, t, noise)."""
    t = rng.randint_rows(rng.named_rows(keys, "time"), 0, schedule.num_steps)
    noise = rng.normal_rows(rng.named_rows(keys, "noise"), x0.shape[1:])
    return process.q_sample(schedule, x0, t, noise), t, noise


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

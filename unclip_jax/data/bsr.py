"""BSR degradation: a low-resolution picture as cameras, resizing and compression make it (BSRGAN, arXiv 2103.14006).

With it unCLIP's second upsampler is trained (arXiv 2204.06125, section 2.1). This is the mild form of latent diffusion.

Two blurs, a resize to a random size, noise and JPEG compression follow each other in random order; then come the resize
to the wanted size and JPEG once more. With f the factor of the sides, all on a picture in [0, 1]:

    blur    isotropic, deviation U(0, (2 + 0.2 f) / 4) px, or at even odds anisotropic: the variances along its axes
            U(0, (4 + f) / 4) px^2, at any angle
    resize  3 times in 4 to 1 / U(1, 2 f) of the side, bilinear, bicubic or by area; else blurred, deviation
            U(0.1, 0.6 f) px, and every f-th pixel taken
    noise   deviation U(1, 2) / 255: of each channel its own (2 in 5), the same in all (2 in 5), or correlated (1 in 5)
    JPEG    quality 80 to 95; the one in random order 9 times in 10
"""

import io

import numpy as np
from PIL import Image

from unclip_jax.arrays import Float, UInt8

FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
REACH = 3.0  # deviations to which a kernel reaches


def degrade(picture: UInt8["H W 3"], factor: int, rng: np.random.Generator) -> Float["H/f W/f 3"]:
    """A picture, its sides divisible by `factor`, as a degraded one of 1/factor the side: float32 in [-1, 1]."""
    height, width = picture.shape[:2]
    size = (width // factor, height // factor)
    x = picture.astype(np.float32) / 255.0
    steps = [_random_blur, _random_blur, _random_resize, _random_noise, _random_jpeg]
    for step in rng.permutation(len(steps)):
        x = steps[step](x, factor, rng)
    x = _resized(x, size, FILTERS[rng.integers(len(FILTERS))])
    return np.clip(_jpeg(x, rng) * 2.0 - 1.0, -1.0, 1.0).astype(np.float32)


def gaussian_kernel(variances: tuple[float, float], angle: float) -> Float["K K"]:
    """A Gaussian with these variances (px^2) along two axes, the first at `angle` to x; its weights sum to 1."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # A variance of nothing is a kernel of one pixel; a hundredth of a pixel stands for it.
    covariance = turn @ np.diag(np.maximum(variances, 1e-4)) @ turn.T
    reach = max(1, int(np.ceil(REACH * np.sqrt(max(variances)))))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    points = np.stack([x, y], axis=-1)
    weights = np.exp(-0.5 * np.einsum("...i,ij,...j->...", points, np.linalg.inv(covariance), points))
    return weights / weights.sum()


def filtered(x: Float["H W C"], kernel: Float["K K"]) -> Float["H W C"]:
    """Each pixel the mean of its surroundings, weighed by the kernel; the edges are mirrored."""
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    sides = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, sides)[..., None]
    return np.fft.irfft2(spectrum, sides, axes=(0, 1))[2 * reach :, 2 * reach :].astype(np.float32)


def _random_blur(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        variance = rng.uniform(0.0, (2.0 + 0.2 * factor) / 4.0) ** 2
        return filtered(x, gaussian_kernel((variance, variance), 0.0))
    variances = rng.uniform(0.0, (4.0 + factor) / 4.0, size=2)
    return filtered(x, gaussian_kernel(tuple(variances), rng.uniform(0.0, np.pi)))


def _random_resize(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[:2]
    if rng.random() < 0.75:
        shrunk = rng.uniform(1.0, 2.0 * factor)
        size = (max(1, round(width / shrunk)), max(1, round(height / shrunk)))
        return _resized(x, size, FILTERS[rng.integers(len(FILTERS))])
    deviation = min(rng.uniform(0.1, 0.6 * factor), (min(height, width) - 1) / REACH / 2.0)
    return filtered(x, gaussian_kernel((deviation**2, deviation**2), 0.0))[::factor, ::factor]


def _random_noise(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    deviation, choice = rng.uniform(1.0, 2.0) / 255.0, rng.random()
    noise = rng.standard_normal((*x.shape[:2], 1 if 0.4 <= choice < 0.8 else x.shape[-1]))
    if choice >= 0.8:  # channels mixed by a random turn and random strengths of at most 1
        turn, _ = np.linalg.qr(rng.standard_normal((x.shape[-1], x.shape[-1])))
        noise = noise @ (np.sqrt(rng.random(x.shape[-1]))[:, None] * turn)
    return np.clip(x + deviation * noise, 0.0, 1.0).astype(np.float32)


def _random_jpeg(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    return _jpeg(x, rng) if rng.random() < 0.9 else x


def _jpeg(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    levels = np.round(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)
    Image.fromarray(levels).save(buffer, "JPEG", quality=int(rng.integers(80, 96)))
    return np.asarray(Image.open(buffer), np.float32) / 255.0


def _resized(x: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """Channel by channel, as Pillow resizes single channels of floats."""
    channels = [np.asarray(Image.fromarray(channel).resize(size, resampling)) for channel in np.moveaxis(x, -1, 0)]
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0).astype(np.float32)

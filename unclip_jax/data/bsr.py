"""BSR degradation: synthesizes realistic low-resolution images for training an upsampler.

BSRGAN (Zhang et al. 2021, arXiv 2103.14006) blurs, resizes, adds noise and compresses in random order. unCLIP (Ramesh
et al. 2022, arXiv 2204.06125, Section 2.1) trains its second upsampler on such inputs. This is the mild variant from
latent diffusion.

The image, with values in [0, 1], goes through two blurs, one resize, one noise and one JPEG step in random order. It is
then resized to the target size and compressed as JPEG once more. With f the downscaling factor:

    blur    isotropic with std U(0, (2 + 0.2 f) / 4) px, or, with probability 1/2, anisotropic with variances
            U(0, (4 + f) / 4) px^2 along two axes at a random angle
    resize  with probability 3/4, divides the side by U(1, 2 f), with a bilinear, bicubic or box filter; otherwise
            blurs with std U(0.1, 0.6 f) px, limited by the size of the image, and keeps every f-th pixel
    noise   std U(1, 2) / 255; independent per channel (2 in 5), equal in all channels (2 in 5), or correlated between
            channels (1 in 5)
    JPEG    quality 80 to 95; the step in random order is applied with probability 9/10
"""

import io

import numpy as np
from PIL import Image

from unclip_jax.arrays import Float, UInt8

FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
REACH = 3.0  # radius of a kernel, in standard deviations


def degrade(image: UInt8["H W 3"], factor: int, rng: np.random.Generator) -> Float["H/f W/f 3"]:
    """Downscales an image by `factor` with random degradation.

    Args:
      image: The image. Its height and width must be divisible by `factor`.
      factor: Downscaling factor.
      rng: Generator of all random choices.

    Returns:
      The low-resolution image as float32 in [-1, 1].
    """
    height, width = image.shape[:2]
    size = (width // factor, height // factor)
    x = image.astype(np.float32) / 255.0
    steps = [_random_blur, _random_blur, _random_resize, _random_noise, _random_jpeg]
    for step in rng.permutation(len(steps)):
        x = steps[step](x, factor, rng)
    x = _resized(x, size, FILTERS[rng.integers(len(FILTERS))])
    return np.clip(_jpeg(x, rng) * 2.0 - 1.0, -1.0, 1.0).astype(np.float32)


def gaussian_kernel(variances: tuple[float, float], angle: float) -> Float["K K"]:
    """Returns an anisotropic Gaussian kernel whose weights sum to 1.

    Args:
      variances: Variances in px^2 along two perpendicular axes; 0 disables the blur along an axis.
      angle: Angle in radians between the x axis and the first of these axes.
    """
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # The lower bound keeps the covariance invertible. It is far too small to blur anything.
    covariance = rotation @ np.diag(np.maximum(variances, 1e-4)) @ rotation.T
    radius = max(1, int(np.ceil(REACH * np.sqrt(max(variances)))))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    points = np.stack([x, y], axis=-1)
    weights = np.exp(-0.5 * np.einsum("...i,ij,...j->...", points, np.linalg.inv(covariance), points))
    return weights / weights.sum()


def filtered(x: Float["H W C"], kernel: Float["K K"]) -> Float["H W C"]:
    """Convolves every channel with a kernel by FFT. Edges are padded by reflection.

    Args:
      x: The image. Its height and width must be greater than K // 2.
      kernel: The kernel. K must be odd.
    """
    radius = kernel.shape[0] // 2
    padded = np.pad(x, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[..., None]
    return np.fft.irfft2(spectrum, shape, axes=(0, 1))[2 * radius :, 2 * radius :].astype(np.float32)


def _random_blur(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        variance = rng.uniform(0.0, (2.0 + 0.2 * factor) / 4.0) ** 2
        return filtered(x, gaussian_kernel((variance, variance), 0.0))
    variances = rng.uniform(0.0, (4.0 + factor) / 4.0, size=2)
    return filtered(x, gaussian_kernel(tuple(variances), rng.uniform(0.0, np.pi)))


def _random_resize(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[:2]
    if rng.random() < 0.75:
        divisor = rng.uniform(1.0, 2.0 * factor)
        size = (max(1, round(width / divisor)), max(1, round(height / divisor)))
        return _resized(x, size, FILTERS[rng.integers(len(FILTERS))])
    # The limit keeps the radius of the kernel below the side of the image, as reflection padding requires.
    std = min(rng.uniform(0.1, 0.6 * factor), (min(height, width) - 1) / REACH / 2.0)
    return filtered(x, gaussian_kernel((std**2, std**2), 0.0))[::factor, ::factor]


def _random_noise(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    std, choice = rng.uniform(1.0, 2.0) / 255.0, rng.random()
    noise = rng.standard_normal((*x.shape[:2], 1 if 0.4 <= choice < 0.8 else x.shape[-1]))
    if choice >= 0.8:  # correlate the channels by a random rotation, with a random variance along each axis
        rotation, _ = np.linalg.qr(rng.standard_normal((x.shape[-1], x.shape[-1])))
        noise = noise @ (np.sqrt(rng.random(x.shape[-1]))[:, None] * rotation)
    return np.clip(x + std * noise, 0.0, 1.0).astype(np.float32)


def _random_jpeg(x: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    return _jpeg(x, rng) if rng.random() < 0.9 else x


def _jpeg(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    levels = np.round(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)
    Image.fromarray(levels).save(buffer, "JPEG", quality=int(rng.integers(80, 96)))
    return np.asarray(Image.open(buffer), np.float32) / 255.0


def _resized(x: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """Resizes an image to (width, height) and clips the overshoot of the bicubic filter to [0, 1].

    Each channel is resized separately, because Pillow supports float images with one channel only.
    """
    channels = [np.asarray(Image.fromarray(channel).resize(size, resampling)) for channel in np.moveaxis(x, -1, 0)]
    return np.clip(np.stack(channels, axis=-1), 0.0, 1.0).astype(np.float32)

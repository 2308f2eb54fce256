"""Corruption of low-resolution inputs, for upsamplers that are robust to errors of the previous stage.

unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.1 and Appendix C) blurs the inputs of its first upsampler with a
Gaussian kernel of size 3 and sigma 0.6. Noise of random strength is the conditioning augmentation of cascaded diffusion
models (Ho et al. 2021, arXiv 2106.15282, Section 4.1): the upsampler learns to correct slightly wrong outlines.
"""

import numpy as np


def gaussian_noise(image: np.ndarray, rng: np.random.Generator, *, max_std: float) -> np.ndarray:
    """Adds Gaussian noise with a random standard deviation and clips to [-1, 1].

    Args:
      image: Float image "H W C" in [-1, 1].
      rng: Generator of the noise and of its standard deviation.
      max_std: Upper end of the range [0, max_std] from which the standard deviation is drawn uniformly.

    Returns:
      The noisy image as float32.
    """
    noise = rng.uniform(0.0, max_std) * rng.standard_normal(image.shape)
    return np.clip(image + noise, -1.0, 1.0).astype(np.float32)


def gaussian_blur(image: np.ndarray, *, kernel: int = 3, sigma: float = 0.6) -> np.ndarray:
    """Blurs an image with a normalized Gaussian kernel. Edges are padded by reflection.

    Args:
      image: Float image "H W C".
      kernel: Side of the kernel in pixels, odd, at most 2 * min(H, W) - 1.
      sigma: Standard deviation in pixels, positive.

    Returns:
      The blurred image as float32.

    Raises:
      ValueError: If `kernel` or `sigma` is out of range.
    """
    radius = kernel // 2
    if kernel < 1 or kernel % 2 == 0 or radius >= min(image.shape[:2]):
        largest = 2 * min(image.shape[:2]) - 1
        raise ValueError(
            f"kernel must be odd and from 1 to {largest} for an image of shape {image.shape}, got {kernel}."
        )
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}.")
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    blurred = np.asarray(image, np.float32)
    for axis in (0, 1):
        size = blurred.shape[axis]
        padding = [(radius, radius) if dim == axis else (0, 0) for dim in range(blurred.ndim)]
        padded = np.pad(blurred, padding, mode="reflect")
        blurred = sum(
            weight * np.take(padded, range(start, start + size), axis) for start, weight in enumerate(weights)
        )
    return blurred

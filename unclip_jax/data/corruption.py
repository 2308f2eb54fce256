"""Corruption of an upsampler's low-resolution input, so that it forgives what the stage before it gets wrong.

The first upsampler's is a slight Gaussian blur, kernel 3 and sigma 0.6 (unCLIP, arXiv 2204.06125, section 2.1 and
appendix C). Gaussian noise of random strength is that of cascaded diffusion (arXiv 2106.15282, section 4.1): outlines
that the stage before it has drawn a little wrong are drawn anew.
"""

import numpy as np


def gaussian_noise(image: np.ndarray, rng: np.random.Generator, *, max_std: float) -> np.ndarray:
    """Adds noise to float "H W C" in [-1, 1], clips to that range and returns float32.

    Args:
      max_std: Upper end of the range [0, max_std] from which the standard deviation is drawn uniformly.
    """
    noise = rng.uniform(0.0, max_std) * rng.standard_normal(image.shape)
    return np.clip(image + noise, -1.0, 1.0).astype(np.float32)


def gaussian_blur(image: np.ndarray, *, kernel: int = 3, sigma: float = 0.6) -> np.ndarray:
    """Blurs float "H W C" with a normalised Gaussian of `kernel` x `kernel` pixels; the edges are mirrored.

    Args: kernel: odd, at most 2 * min(H, W) - 1.  sigma: of the Gaussian, in pixels, positive.
    Returns: float32, same shape.
    """
    reach = kernel // 2
    if kernel < 1 or kernel % 2 == 0 or reach >= min(image.shape[:2]):
        raise ValueError(f"kernel is {kernel}; an image of shape {image.shape} needs an odd one, half of it inside")
    if sigma <= 0:
        raise ValueError(f"sigma is {sigma}; it must be positive")
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    blurred = np.asarray(image, np.float32)
    for axis in (0, 1):
        size = blurred.shape[axis]
        padding = [(reach, reach) if dim == axis else (0, 0) for dim in range(blurred.ndim)]
        padded = np.pad(blurred, padding, mode="reflect")
        blurred = sum(
            weight * np.take(padded, range(start, start + size), axis) for start, weight in enumerate(weights)
        )
    return blurred

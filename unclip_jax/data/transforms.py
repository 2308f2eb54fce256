"""Random generators of rows, and image operations on uint8 "S S 3"."""

import zlib

import numpy as np
from PIL import Image


def row_rng(seed: int, row: int, purpose: str) -> np.random.Generator:
    """Returns the random generator of one purpose of one row. Different rows and purposes are independent.

    Args:
      seed: Seed of the pipeline.
      row: Global row number.
      purpose: Name of the random choice, such as "crop" or "caption".
    """
    return np.random.default_rng([seed, row, zlib.crc32(purpose.encode())])


def center_crop(image: np.ndarray) -> np.ndarray:
    """Returns the largest centered square of an image with any height and width."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def downscale(image: np.ndarray, size: int) -> np.ndarray:
    """Downscales a square image: averages boxes if `size` divides its side, otherwise uses Lanczos.

    Args:
      image: The image.
      size: Side of the result in pixels.

    Raises:
      ValueError: If the image is not square or is smaller than `size`.
    """
    height, width = image.shape[:2]
    if height != width or size > width:
        raise ValueError(f"image must be square and at least {size} px, got {width} x {height} px.")
    if size == width:
        return image
    full = Image.fromarray(image)
    if width % size == 0:
        return np.asarray(full.reduce(width // size))
    return np.asarray(full.resize((size, size), Image.Resampling.LANCZOS))


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator, *, multiple: int = 1) -> np.ndarray:
    """Returns a random square crop.

    Args:
      image: The image.
      size: Side of the crop in pixels.
      rng: Generator of the position.
      multiple: The top and left edges of the crop are multiples of this number. With the upsampling factor, crops align
        with the pixels of the low-resolution image.
    """
    positions = (image.shape[0] - size) // multiple + 1
    top, left = rng.integers(positions, size=2) * multiple
    return image[top : top + size, left : left + size]


def low_resolution(image: np.ndarray, factor: int) -> np.ndarray:
    """Downscales an image by averaging boxes of `factor` x `factor` px, without rounding.

    Args:
      image: The image, whose side must be divisible by `factor`.
      factor: Downscaling factor.

    Returns:
      The low-resolution image as float32 "s s C" in [-1, 1].
    """
    size = image.shape[0] // factor
    boxes = image.reshape(size, factor, size, factor, -1)
    return boxes.mean((1, 3), dtype=np.float32) / np.float32(127.5) - 1


def flipped(image: np.ndarray) -> np.ndarray:
    """Returns the image flipped horizontally."""
    return image[:, ::-1]

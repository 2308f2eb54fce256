"""Random generators of rows, and the image operations that make a row of a batch. Images are uint8 "S S 3"."""

import zlib

import numpy as np
from PIL import Image


def row_rng(seed: int, row: int, purpose: str) -> np.random.Generator:
    """Returns the random generator for one purpose ("crop", "caption", ...) of one global row.

    No other row, and no other purpose of the same row, uses it.
    """
    return np.random.default_rng([seed, row, zlib.crc32(purpose.encode())])


def center_crop(image: np.ndarray) -> np.ndarray:
    """Returns the largest centered square of an image of any shape."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def downscale(image: np.ndarray, size: int) -> np.ndarray:
    """Returns a square image at `size` px: the mean over boxes if `size` divides its side, otherwise Lanczos.

    Raises:
      ValueError: For an image that is not square or is smaller than `size`.
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
    """Returns a random `size` x `size` window whose corner lies on a grid of `multiple` px.

    If `multiple` is the upsampling factor, the window consists of whole pixels of the low-resolution image.
    """
    positions = (image.shape[0] - size) // multiple + 1
    top, left = rng.integers(positions, size=2) * multiple
    return image[top : top + size, left : left + size]


def low_resolution(image: np.ndarray, factor: int) -> np.ndarray:
    """Returns the mean over boxes of `factor` x `factor` px, not rounded, as float32 "s s C" in [-1, 1]."""
    size = image.shape[0] // factor
    boxes = image.reshape(size, factor, size, factor, -1)
    return boxes.mean((1, 3), dtype=np.float32) / np.float32(127.5) - 1


def flipped(image: np.ndarray) -> np.ndarray:
    """Returns the image mirrored left to right."""
    return image[:, ::-1]

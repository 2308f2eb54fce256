"""What is done to a record to make a row of a batch. Pictures are uint8 "S S 3"; nothing here draws from a generator
that another row, or another purpose of the same row, draws from."""

import zlib

import numpy as np
from PIL import Image


def row_rng(seed: int, row: int, purpose: str) -> np.random.Generator:
    """The generator for one purpose ("crop", "caption", ...) of one global row."""
    return np.random.default_rng([seed, row, zlib.crc32(purpose.encode())])


def middle_square(picture: np.ndarray) -> np.ndarray:
    """The largest square around the middle of a picture of any shape."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def shrink(picture: np.ndarray, size: int) -> np.ndarray:
    """A square picture at `size` px: the mean over boxes where `size` divides its side, Lanczos otherwise.

    Raises ValueError for a picture that is not square, or smaller than `size`.
    """
    height, width = picture.shape[:2]
    if height != width or size > width:
        raise ValueError(f"size is {size}, and the picture {width} x {height} px; it must be square, and no smaller")
    if size == width:
        return picture
    image = Image.fromarray(picture)
    if width % size == 0:
        return np.asarray(image.reduce(width // size))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def random_crop(picture: np.ndarray, size: int, rng: np.random.Generator, *, multiple: int = 1) -> np.ndarray:
    """A `size` x `size` window, its corner anywhere on a grid of `multiple` px (1: anywhere at all).

    With `multiple` the upsampling factor, the same window exists, to the pixel, in the low-resolution picture.
    """
    places = (picture.shape[0] - size) // multiple + 1
    top, left = rng.integers(places, size=2) * multiple
    return picture[top : top + size, left : left + size]


def low_resolution(picture: np.ndarray, factor: int) -> np.ndarray:
    """The mean over boxes of `factor` x `factor` px, not rounded: uint8 "S S C" to float32 "s s C" in [-1, 1]."""
    size = picture.shape[0] // factor
    boxes = picture.reshape(size, factor, size, factor, -1)
    return boxes.mean((1, 3), dtype=np.float32) / np.float32(127.5) - 1


def flipped(picture: np.ndarray) -> np.ndarray:
    """The picture in a mirror: left is right."""
    return picture[:, ::-1]

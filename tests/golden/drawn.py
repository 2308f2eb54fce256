"""Weights that two programs draw alike, from each tensor's name and shape, so that no weights have to be kept."""

import zlib

import numpy as np


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, such that activations keep their size; none of its numbers is 0 or 1.

    Matrices and kernels are [out, in, ...]: deviation 1 / sqrt(numbers that make one output). What a name calls a
    scale of a norm lies about 1, biases and other vectors about 0.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    x = rng.standard_normal(shape)
    if len(shape) < 2:
        is_scale = name.endswith("weight")
        return np.asarray(1.0 + 0.3 * x if is_scale else 0.2 * x, np.float32)
    return (x / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

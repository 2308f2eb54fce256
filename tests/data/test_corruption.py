"""Gaussian blur against values computed from the normalized weights exp(-x^2 / 2 sigma^2)."""

import math

import numpy as np
import pytest

from unclip_jax.data.corruption import gaussian_blur

# Weights for kernel 3 and sigma 0.6: 1 in the middle and exp(-1 / 0.72) = 0.24935 at the sides, normalized.
SIDE = math.exp(-1 / (2 * 0.6**2)) / (1 + 2 * math.exp(-1 / (2 * 0.6**2)))
MIDDLE = 1 - 2 * SIDE


def impulse(size):
    image = np.zeros((size, size, 1), np.float32)
    image[size // 2, size // 2] = 1
    return image


def test_gaussian_blur_of_an_impulse_is_the_kernel():
    blurred = gaussian_blur(impulse(5))
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = np.outer([SIDE, MIDDLE, SIDE], [SIDE, MIDDLE, SIDE])
    np.testing.assert_allclose(blurred[..., 0], expected, atol=1e-7)
    assert blurred.dtype == np.float32


def test_gaussian_blur_reflects_edges():
    # In a 3 x 3 image, the middle is reflected at every edge, so it contributes twice to the edge pixels.
    blurred = gaussian_blur(impulse(3))
    line = [2 * SIDE, MIDDLE, 2 * SIDE]
    np.testing.assert_allclose(blurred[..., 0], np.outer(line, line), atol=1e-7)


def test_gaussian_blur_keeps_flat_images():
    for kernel, sigma in ((1, 0.6), (3, 0.6), (5, 2.0)):
        blurred = gaussian_blur(np.full((8, 8, 3), -0.7, np.float32), kernel=kernel, sigma=sigma)
        np.testing.assert_allclose(blurred, -0.7, atol=1e-6)


def test_gaussian_blur_treats_channels_separately():
    image = np.zeros((5, 7, 2), np.float32)
    image[2, 3, 1] = 1
    blurred = gaussian_blur(image)
    assert blurred.shape == (5, 7, 2)
    assert not blurred[..., 0].any()
    np.testing.assert_allclose(blurred[2, :, 1], [0, 0, MIDDLE * SIDE, MIDDLE**2, MIDDLE * SIDE, 0, 0], atol=1e-7)


def test_gaussian_blur_rejects_invalid_kernel_and_sigma():
    for kernel in (2, 0, -1, 11):
        with pytest.raises(ValueError, match=f"kernel must be odd and from 1 to 9 .* got {kernel}"):
            gaussian_blur(impulse(5), kernel=kernel)
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        gaussian_blur(impulse(5), sigma=0)

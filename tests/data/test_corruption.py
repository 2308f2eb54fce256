"""Expected values are written out from the weights exp(-x^2 / 2 sigma^2), normalised."""

import math

import numpy as np
import pytest

from unclip_jax.data.corruption import gaussian_blur

# Kernel 3, sigma 0.6: exp(-1 / 0.72) = 0.24935 beside 1.
SIDE = math.exp(-1 / (2 * 0.6**2)) / (1 + 2 * math.exp(-1 / (2 * 0.6**2)))
MIDDLE = 1 - 2 * SIDE


def impulse(size):
    image = np.zeros((size, size, 1), np.float32)
    image[size // 2, size // 2] = 1
    return image


def test_an_impulse_becomes_the_kernel():
    blurred = gaussian_blur(impulse(5))
    expected = np.zeros((5, 5))
    expected[1:4, 1:4] = np.outer([SIDE, MIDDLE, SIDE], [SIDE, MIDDLE, SIDE])
    np.testing.assert_allclose(blurred[..., 0], expected, atol=1e-7)
    assert blurred.dtype == np.float32


def test_edges_are_mirrored_about_their_pixel():
    # On 3 x 3 the mirror of the middle lies beyond every edge too, so an edge sees it twice.
    blurred = gaussian_blur(impulse(3))
    line = [2 * SIDE, MIDDLE, 2 * SIDE]
    np.testing.assert_allclose(blurred[..., 0], np.outer(line, line), atol=1e-7)


def test_a_flat_picture_stays_flat():
    for kernel, sigma in ((1, 0.6), (3, 0.6), (5, 2.0)):
        blurred = gaussian_blur(np.full((8, 8, 3), -0.7, np.float32), kernel=kernel, sigma=sigma)
        np.testing.assert_allclose(blurred, -0.7, atol=1e-6)


def test_channels_and_axes_are_apart():
    image = np.zeros((5, 7, 2), np.float32)
    image[2, 3, 1] = 1
    blurred = gaussian_blur(image)
    assert blurred.shape == (5, 7, 2)
    assert not blurred[..., 0].any()
    np.testing.assert_allclose(blurred[2, :, 1], [0, 0, MIDDLE * SIDE, MIDDLE**2, MIDDLE * SIDE, 0, 0], atol=1e-7)


def test_impossible_kernels_are_named():
    for kernel in (2, 0, -1, 11):
        with pytest.raises(ValueError, match=f"kernel is {kernel}; an image of shape"):
            gaussian_blur(impulse(5), kernel=kernel)
    with pytest.raises(ValueError, match="sigma is 0; it must be positive"):
        gaussian_blur(impulse(5), sigma=0)

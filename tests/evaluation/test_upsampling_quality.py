"""PSNR and flat pixels of hand-written images."""

import math

import numpy as np
import pytest

from unclip_jax.evaluation.upsampling_quality import flat, psnr, upsampling_quality


def filled(level, count=1):
    return np.full((count, 2, 2, 3), level, np.uint8)


def test_psnr_of_known_errors():
    # All values differ by 5: mean squared error 25. One of 12 values differs by 12: mean squared error 12.
    assert psnr(filled(100), filled(105)) == pytest.approx(10 * math.log10(255**2 / 25))
    other = filled(100)
    other[0, 1, 1, 2] = 112
    assert psnr(filled(100), other) == pytest.approx(10 * math.log10(255**2 / 12))
    assert psnr(filled(255), filled(0)) == pytest.approx(0.0)  # uint8 does not wrap around


def test_psnr_of_identical_images_is_limited_by_rounding():
    assert psnr(filled(7), filled(7)) == pytest.approx(10 * math.log10(255**2 * 12))


def test_flat_counts_pixels_within_eight_levels_in_every_channel():
    image = np.array([[[10, 10, 10], [18, 2, 10]], [[19, 10, 10], [200, 200, 208]]], np.uint8)
    assert flat(image, [(10, 10, 10)]) == 0.5
    assert flat(image, [(10, 10, 10), (200, 200, 200)]) == 0.75
    assert flat(image, [(10, 10, 200)]) == 0.0  # only some channels are close


def test_upsampling_quality_averages_over_images():
    true = np.concatenate([filled(100), filled(200)])
    bicubic = np.concatenate([filled(120), filled(220)])
    upsampled = np.concatenate([filled(102), filled(220)])  # the second is equal to bicubic
    quality = upsampling_quality(upsampled, bicubic, true, [[(100, 100, 100)], [(200, 200, 200)]])
    assert quality.n == 2
    assert quality.psnr_gain == pytest.approx((10 * math.log10(20**2 / 2**2) + 0) / 2)
    assert quality.psnr - quality.psnr_bicubic == pytest.approx(quality.psnr_gain)
    assert (quality.flat, quality.flat_bicubic, quality.flat_true) == (0.5, 0.0, 1.0)
    assert quality.gap_closed == 0.5


def test_gap_closed_is_none_without_a_gap():
    assert upsampling_quality(filled(1), filled(1), filled(1), [[(1, 1, 1)]]).gap_closed is None

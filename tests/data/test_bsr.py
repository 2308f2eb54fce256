"""BSR degradation: single steps against known moments and values, and properties of the complete degradation."""

import numpy as np
import pytest

from unclip_jax.data import bsr
from unclip_jax.data.transforms import low_resolution


def blocks(seed=0, side=32):
    """Returns an image of 4 x 4 random flat blocks."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return np.kron(small, np.ones((side // 4, side // 4, 1), np.uint8))


@pytest.mark.parametrize(("variances", "angle"), [((4.0, 4.0), 0.0), ((6.0, 1.5), 0.0), ((6.0, 1.5), np.pi / 3)])
def test_gaussian_kernel_has_the_requested_covariance(variances, angle):
    kernel = bsr.gaussian_kernel(variances, angle)
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cos, sin = np.cos(angle), np.sin(angle)
    expected = (
        variances[0] * cos**2 + variances[1] * sin**2,
        variances[0] * sin**2 + variances[1] * cos**2,
        (variances[0] - variances[1]) * cos * sin,
    )
    assert kernel.sum() == pytest.approx(1.0)
    actual = ((kernel * x * x).sum(), (kernel * y * y).sum(), (kernel * x * y).sum())
    np.testing.assert_allclose(actual, expected, rtol=0.06, atol=1e-6)  # truncated at three standard deviations


def test_gaussian_kernel_of_zero_variance_is_the_identity():
    kernel = bsr.gaussian_kernel((0.0, 0.0), 0.3)
    np.testing.assert_allclose(kernel, [[0, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-12)
    x = blocks().astype(np.float32) / 255.0
    np.testing.assert_allclose(bsr.filtered(x, kernel), x, atol=1e-6)


def test_filtered_spreads_an_impulse_and_reflects_edges():
    kernel = np.arange(9.0).reshape(3, 3) / 36.0
    x = np.zeros((5, 6, 1), np.float32)
    x[2, 3] = 1.0
    actual = bsr.filtered(x, kernel)[..., 0]
    np.testing.assert_allclose(actual[1:4, 2:5], kernel, atol=1e-6)
    corner = np.zeros((5, 6, 1), np.float32)
    corner[1, 1] = 1.0  # reflected to all four corners around pixel (0, 0)
    weight = kernel[0, 0] + kernel[0, 2] + kernel[2, 0] + kernel[2, 2]
    assert bsr.filtered(corner, kernel)[0, 0, 0] == pytest.approx(weight, abs=1e-6)


def test_random_noise_has_the_documented_stds_and_correlations():
    gray = np.full((64, 64, 3), 0.5, np.float32)
    stds, kinds = [], {"equal": 0, "independent": 0, "correlated": 0}
    for seed in range(200):
        noise = bsr._random_noise(gray, 4, np.random.default_rng(seed)) - 0.5
        cross = np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)]
        kind = "equal" if cross.min() > 0.999 else "independent" if np.abs(cross).max() < 0.06 else "correlated"
        kinds[kind] += 1
        if kind != "correlated":
            stds.append(255.0 * noise[..., 0].std())
    assert min(stds) > 0.95 and max(stds) < 2.05
    assert 60 <= kinds["equal"] <= 100 and 60 <= kinds["independent"] <= 105 and 15 <= kinds["correlated"] <= 60


def test_degrade_keeps_the_color_of_flat_images_and_returns_the_expected_size():
    for seed in range(40):
        degraded = bsr.degrade(np.full((32, 48, 3), (200, 40, 90), np.uint8), 4, np.random.default_rng(seed))
        assert degraded.shape == (8, 12, 3) and degraded.dtype == np.float32
        color = (degraded.mean(axis=(0, 1)) + 1.0) * 127.5
        np.testing.assert_allclose(color, (200, 40, 90), atol=4.0)


def test_degrade_is_deterministic_given_the_generator():
    first, second, other = (bsr.degrade(blocks(), 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.05


def test_degrade_is_close_to_but_different_from_box_downscaling():
    plain = low_resolution(blocks(side=64), 4)
    errors = [
        np.sqrt(np.mean((bsr.degrade(blocks(side=64), 4, np.random.default_rng(seed)) - plain) ** 2))
        for seed in range(40)
    ]
    spread = plain.std()
    assert np.min(errors) > 0.03 * spread and np.mean(errors) < 0.6 * spread and np.std(errors) > 0.02 * spread

"""BSR degradation: its parts by moments and by hand, the whole by what it must leave and what it must change."""

import numpy as np
import pytest

from unclip_jax.data import bsr
from unclip_jax.data.transforms import low_resolution


def picture(seed=0, side=32):
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return np.kron(small, np.ones((side // 4, side // 4, 1), np.uint8))


@pytest.mark.parametrize(("variances", "angle"), [((4.0, 4.0), 0.0), ((6.0, 1.5), 0.0), ((6.0, 1.5), np.pi / 3)])
def test_a_kernels_moments_are_its_covariance(variances, angle):
    kernel = bsr.gaussian_kernel(variances, angle)
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cos, sin = np.cos(angle), np.sin(angle)
    wanted = (
        variances[0] * cos**2 + variances[1] * sin**2,
        variances[0] * sin**2 + variances[1] * cos**2,
        (variances[0] - variances[1]) * cos * sin,
    )
    assert kernel.sum() == pytest.approx(1.0)
    found = ((kernel * x * x).sum(), (kernel * y * y).sum(), (kernel * x * y).sum())
    np.testing.assert_allclose(found, wanted, rtol=0.06, atol=1e-6)  # cut off at three deviations


def test_a_variance_of_nothing_leaves_the_picture():
    kernel = bsr.gaussian_kernel((0.0, 0.0), 0.3)
    np.testing.assert_allclose(kernel, [[0, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-12)
    x = picture().astype(np.float32) / 255.0
    np.testing.assert_allclose(bsr.filtered(x, kernel), x, atol=1e-6)


def test_filtering_spreads_a_point_and_mirrors_the_edge():
    kernel = np.arange(9.0).reshape(3, 3) / 36.0
    x = np.zeros((5, 6, 1), np.float32)
    x[2, 3] = 1.0
    found = bsr.filtered(x, kernel)[..., 0]
    np.testing.assert_allclose(found[1:4, 2:5], kernel, atol=1e-6)
    corner = np.zeros((5, 6, 1), np.float32)
    corner[1, 1] = 1.0  # seen from pixel (0, 0) on all four sides of it
    weight = kernel[0, 0] + kernel[0, 2] + kernel[2, 0] + kernel[2, 2]
    assert bsr.filtered(corner, kernel)[0, 0, 0] == pytest.approx(weight, abs=1e-6)


def test_noise_has_the_stated_deviations_and_kinds():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    deviations, kinds = [], {"same": 0, "own": 0, "mixed": 0}
    for seed in range(200):
        noise = bsr._random_noise(grey, 4, np.random.default_rng(seed)) - 0.5
        cross = np.corrcoef(noise.reshape(-1, 3).T)[np.triu_indices(3, 1)]
        kind = "same" if cross.min() > 0.999 else "own" if np.abs(cross).max() < 0.06 else "mixed"
        kinds[kind] += 1
        if kind != "mixed":
            deviations.append(255.0 * noise[..., 0].std())
    assert 0.95 < min(deviations) and max(deviations) < 2.05
    assert 60 <= kinds["same"] <= 100 and 60 <= kinds["own"] <= 105 and 15 <= kinds["mixed"] <= 60


def test_a_flat_picture_keeps_its_colour_and_every_picture_its_size():
    for seed in range(40):
        made = bsr.degrade(np.full((32, 48, 3), (200, 40, 90), np.uint8), 4, np.random.default_rng(seed))
        assert made.shape == (8, 12, 3) and made.dtype == np.float32
        colour = (made.mean(axis=(0, 1)) + 1.0) * 127.5
        np.testing.assert_allclose(colour, (200, 40, 90), atol=4.0)


def test_the_same_generator_gives_the_same_picture_and_others_differ():
    once, again, other = (bsr.degrade(picture(), 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.05


def test_what_is_made_shows_the_picture_less_sharply():
    plain = low_resolution(picture(side=64), 4)
    errors = [
        np.sqrt(np.mean((bsr.degrade(picture(side=64), 4, np.random.default_rng(seed)) - plain) ** 2))
        for seed in range(40)
    ]
    spread = plain.std()
    assert 0.03 * spread < np.min(errors) and np.mean(errors) < 0.6 * spread and np.std(errors) > 0.02 * spread

"""Image operations and random generators of rows."""

import numpy as np
import pytest

from unclip_jax.data.transforms import downscale, flipped, low_resolution, random_crop, row_rng


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def test_downscale_is_the_rounded_mean_over_boxes():
    image = noise(64)
    boxes = image.reshape(16, 4, 16, 4, 3).astype(np.float64).mean((1, 3))
    assert np.abs(downscale(image, 16) - boxes).max() <= 0.5
    assert downscale(image, 16).dtype == np.uint8


def test_downscale_of_hand_written_image():
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 100
    image[2:, 2:] = 200
    np.testing.assert_array_equal(downscale(image, 2)[..., 0], [[25, 0], [0, 200]])


def test_downscale_by_a_fraction_keeps_flat_images():
    image = np.full((64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(downscale(image, 48), np.full((48, 48, 3), 77))


def test_downscale_to_the_same_size_returns_the_image():
    image = noise(16)
    assert downscale(image, 16) is image


def test_downscale_rejects_upscaling_and_images_that_are_not_square():
    with pytest.raises(ValueError, match="image must be square and at least 32 px, got 16 x 16 px"):
        downscale(noise(16), 32)
    with pytest.raises(ValueError, match="image must be square and at least 8 px, got 16 x 12 px"):
        downscale(noise(16)[:12], 8)


def test_random_crop_samples_all_positions_of_the_grid():
    rows, columns = np.mgrid[:16, :16]
    image = np.stack([rows, columns, rows], -1).astype(np.uint8)  # each pixel contains its own position
    corners = {tuple(random_crop(image, 8, row_rng(0, row, "crop"), multiple=4)[0, 0, :2]) for row in range(200)}
    assert corners == {(top, left) for top in (0, 4, 8) for left in (0, 4, 8)}
    corners = {tuple(random_crop(image, 13, row_rng(0, row, "crop"))[0, 0, :2]) for row in range(300)}
    assert corners == {(top, left) for top in range(4) for left in range(4)}


def test_low_resolution_of_hand_written_image():
    image = np.zeros((4, 4, 1), np.uint8)
    image[0, 0] = 255
    image[2:, :2] = 255
    np.testing.assert_allclose(low_resolution(image, 2)[..., 0], [[-0.5, -1], [1, -1]], atol=1e-7)
    image[0, 1] = 1  # (255 + 1) / 4 = 64: the mean is not rounded
    image[1, 1] = 1  # neither is a quarter of a level
    np.testing.assert_allclose(low_resolution(image, 2)[0, 0, 0], 64.25 / 127.5 - 1, atol=1e-7)


def test_row_rng_depends_on_seed_row_and_purpose():
    draws = [row_rng(*key).random() for key in ((0, 0, "crop"), (1, 0, "crop"), (0, 1, "crop"), (0, 0, "caption"))]
    assert len(set(draws)) == 4
    assert row_rng(0, 2**40, "crop").random() == row_rng(0, 2**40, "crop").random()


def test_flipped_mirrors_columns():
    image = noise(4)
    np.testing.assert_array_equal(flipped(image)[:, 0], image[:, 3])
    np.testing.assert_array_equal(flipped(image)[0, :, 0], image[0, ::-1, 0])

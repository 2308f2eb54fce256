import numpy as np
import pytest

from unclip_jax.data.transforms import downscale, flipped, low_resolution, random_crop, row_rng


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def test_shrinking_is_the_rounded_mean_over_boxes():
    picture = noise(64)
    boxes = picture.reshape(16, 4, 16, 4, 3).astype(np.float64).mean((1, 3))
    assert np.abs(downscale(picture, 16) - boxes).max() <= 0.5
    assert downscale(picture, 16).dtype == np.uint8


def test_shrinking_a_flat_checkerboard_by_hand():
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[0, 0] = 100
    picture[2:, 2:] = 200
    np.testing.assert_array_equal(downscale(picture, 2)[..., 0], [[25, 0], [0, 200]])


def test_shrinking_by_a_fraction_keeps_flat_colour_and_size():
    picture = np.full((64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(downscale(picture, 48), np.full((48, 48, 3), 77))


def test_a_picture_of_the_right_size_is_left_alone():
    picture = noise(16)
    assert downscale(picture, 16) is picture


def test_enlarging_and_oblong_pictures_are_refused():
    with pytest.raises(ValueError, match="image must be square and at least 32 px, got 16 x 16 px"):
        downscale(noise(16), 32)
    with pytest.raises(ValueError, match="image must be square and at least 8 px, got 16 x 12 px"):
        downscale(noise(16)[:12], 8)


def test_crops_lie_on_the_grid_and_reach_every_place():
    rows, columns = np.mgrid[:16, :16]
    picture = np.stack([rows, columns, rows], -1).astype(np.uint8)  # a pixel says where it was
    corners = {tuple(random_crop(picture, 8, row_rng(0, row, "crop"), multiple=4)[0, 0, :2]) for row in range(200)}
    assert corners == {(top, left) for top in (0, 4, 8) for left in (0, 4, 8)}
    corners = {tuple(random_crop(picture, 13, row_rng(0, row, "crop"))[0, 0, :2]) for row in range(300)}
    assert corners == {(top, left) for top in range(4) for left in range(4)}


def test_low_resolution_by_hand():
    picture = np.zeros((4, 4, 1), np.uint8)
    picture[0, 0] = 255
    picture[2:, :2] = 255
    np.testing.assert_allclose(low_resolution(picture, 2)[..., 0], [[-0.5, -1], [1, -1]], atol=1e-7)
    picture[0, 1] = 1  # (255 + 1) / 4 = 64 = -0.49804: one level of one pixel is not rounded away
    picture[1, 1] = 1  # and so is a quarter of a level
    np.testing.assert_allclose(low_resolution(picture, 2)[0, 0, 0], 64.25 / 127.5 - 1, atol=1e-7)


def test_generators_differ_by_seed_row_and_purpose_alone():
    draws = [row_rng(*key).random() for key in ((0, 0, "crop"), (1, 0, "crop"), (0, 1, "crop"), (0, 0, "caption"))]
    assert len(set(draws)) == 4
    assert row_rng(0, 2**40, "crop").random() == row_rng(0, 2**40, "crop").random()


def test_flipped_is_a_mirror():
    picture = noise(4)
    np.testing.assert_array_equal(flipped(picture)[:, 0], picture[:, 3])
    np.testing.assert_array_equal(flipped(picture)[0, :, 0], picture[0, ::-1, 0])

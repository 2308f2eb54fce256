"""Ranges, sizes and files of pictures."""

import jax
import numpy as np
import pytest

from unclip_jax import images


def test_every_level_survives_the_way_to_unit_range_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    unit = images.to_unit(levels)
    assert float(unit.min()) == -1.0 and float(unit.max()) == 1.0
    np.testing.assert_array_equal(images.to_uint8(unit), levels)


def test_what_lies_outside_the_range_is_clipped():
    np.testing.assert_array_equal(images.to_uint8(np.float32([-3.0, 3.0])), [0, 255])


def test_clip_pixels_normalise_by_the_published_statistics():
    grey = np.zeros((1, 8, 8, 3), np.float32)  # 0.5 in 0..1
    expected = (0.5 - np.array(images.CLIP_MEAN)) / np.array(images.CLIP_STD)
    np.testing.assert_allclose(images.clip_pixels(grey, 4)[0, 2, 1], expected, rtol=1e-5)


def test_grid_places_pictures_row_by_row():
    pictures = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    grid = images.grid(pictures, columns=2, gap=1)
    assert grid.shape == (5, 7, 3)
    assert grid[0, 0, 0] == 10 and grid[0, 4, 0] == 20 and grid[3, 0, 0] == 30
    assert grid[2, 0, 0] == 255 and grid[3, 4, 0] == 255


def test_png_keeps_pixels_and_metadata(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    images.write_png(tmp_path / "p.png", picture, {"prompt": "a ring, größer", "seed": "3"})
    np.testing.assert_array_equal(images.read_image(tmp_path / "p.png"), picture)
    assert images.read_png_metadata(tmp_path / "p.png") == {"prompt": "a ring, größer", "seed": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_what_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "p.png").write_text("no picture")
    with pytest.raises(ValueError, match="p.png.*cannot be read as a picture"):
        images.read_image(tmp_path / "p.png")


def test_resizing_to_the_same_size_changes_nothing():
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    assert images.resize(x, 4) is x

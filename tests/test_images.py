"""Ranges, sizes and files of pictures."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize(
    ("size", "expected"), [(8, (8, 8)), (np.int64(8), (8, 8)), ((16, 24), (16, 24)), ([24, 16], (24, 16))]
)
def test_height_width_of_an_int_is_a_square(size, expected):
    assert images.height_width(size) == expected


def test_height_width_must_be_a_pair():
    with pytest.raises(ValueError, match=r"size must be an int or \(height, width\), got \(1, 2, 3\)."):
        images.height_width((1, 2, 3))


def test_resize_takes_height_and_width():
    # Columns 0 and 1, each repeated by nearest neighbor; rows are all alike.
    x = np.broadcast_to(np.float32([0.0, 1.0])[None, None, :, None], (1, 3, 2, 1))
    resized = images.resize(x, (2, 4), method="nearest")
    np.testing.assert_array_equal(resized[0, :, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal(images.resize(x, [2, 4], method="nearest"), resized)


COLOUR = (200, 100, 50)


def encoded(image, format="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def gradient16():
    """Four 16-bit levels whose exact 8-bit values are 0, 1, 128 and 255."""
    return Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.new("RGB", (2, 3), COLOUR)), COLOUR),
        (encoded(Image.new("L", (2, 3), 77)), (77, 77, 77)),
        (encoded(Image.new("1", (2, 3), 1)), (255, 255, 255)),
        (encoded(Image.new("RGBA", (2, 3), (*COLOUR, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (2, 3), (*COLOUR, 51))), (244, 224, 214)),  # 0.2 of the colour, 0.8 of white
        (encoded(Image.new("LA", (2, 3), (0, 51))), (204, 204, 204)),
        (encoded(Image.new("RGB", (2, 3), COLOUR).quantize(4)), COLOUR),
        (encoded(Image.new("P", (2, 3), 0), transparency=0), (255, 255, 255)),
        (encoded(Image.new("RGB", (2, 3), COLOUR), "GIF"), COLOUR),
        (encoded(Image.new("RGB", (2, 3), COLOUR), "WEBP", lossless=True), COLOUR),
        (encoded(Image.new("CMYK", (2, 3), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0)),
    ],
    ids=["rgb", "grey", "bits", "clear", "alpha", "grey-alpha", "palette", "clear-palette", "gif", "webp", "cmyk",
         "cmyk-jpeg"],
)  # fmt: skip
def test_pictures_of_every_kind_have_the_pixels_that_people_see(content, expected):
    picture = images.decode(content, name="a.png")
    assert picture.dtype == np.uint8 and picture.shape[-1] == 3
    np.testing.assert_allclose(picture, np.broadcast_to(expected, picture.shape), atol=2)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(format):
    picture = images.decode(encoded(gradient16(), format), name="a.png")
    np.testing.assert_array_equal(picture[0, :, 0], [0, 1, 128, 255])


def test_a_picture_is_turned_as_its_exif_says():
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right by 90 degrees
    picture = images.decode(encoded(image, exif=exif), name="a.png")
    assert picture.shape == (4, 2, 3)
    assert tuple(picture[0, 1]) == (255, 0, 0)


def test_of_several_frames_the_first_is_taken():
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(content, name="a.gif")[0, 0], [255, 0, 0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify image file"),
        (b"GIF89a", ""),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-700], "truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "truncated"),
        (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "floating-point numbers; 8 or 16 bits are wanted"),
    ],
    ids=["empty", "head", "cut-jpeg", "cut-png", "float"],
)
def test_what_cannot_be_shown_is_refused_with_name_and_reason(content, reason):
    with pytest.raises(ValueError, match=f"image 'cat.jpg' cannot be read as a picture .*{reason}"):
        images.decode(content, name="cat.jpg")


def test_a_picture_of_two_hundred_million_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(ValueError, match="image 'huge.png' cannot be read as a picture .*exceeds limit"):
        images.decode(encoded(Image.new("RGB", (4, 4))), name="huge.png")

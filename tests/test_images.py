"""Value ranges, sizes and files of images."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from unclip_jax import images


def test_to_unit_and_to_uint8_preserve_all_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    unit = images.to_unit(levels)
    assert float(unit.min()) == -1.0 and float(unit.max()) == 1.0
    np.testing.assert_array_equal(images.to_uint8(unit), levels)


def test_to_uint8_clips_values_out_of_range():
    np.testing.assert_array_equal(images.to_uint8(np.float32([-3.0, 3.0])), [0, 255])


def test_clip_pixels_normalizes_by_published_statistics():
    gray = np.zeros((1, 8, 8, 3), np.float32)  # 0.5 in 0..1
    expected = (0.5 - np.array(images.CLIP_MEAN)) / np.array(images.CLIP_STD)
    np.testing.assert_allclose(images.clip_pixels(gray, 4)[0, 2, 1], expected, rtol=1e-5)


def test_grid_arranges_images_row_by_row():
    batch = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    grid = images.grid(batch, columns=2, gap=1)
    assert grid.shape == (5, 7, 3)
    assert grid[0, 0, 0] == 10 and grid[0, 4, 0] == 20 and grid[3, 0, 0] == 30
    assert grid[2, 0, 0] == 255 and grid[3, 4, 0] == 255


def test_write_png_preserves_pixels_and_metadata(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    images.write_png(tmp_path / "p.png", image, {"prompt": "a ring, größer", "seed": "3"})
    np.testing.assert_array_equal(images.read_image(tmp_path / "p.png"), image)
    assert images.read_png_metadata(tmp_path / "p.png") == {"prompt": "a ring, größer", "seed": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_read_image_rejects_files_that_are_not_images(tmp_path):
    (tmp_path / "p.png").write_text("not an image")
    with pytest.raises(ValueError, match="p.png.*cannot be decoded"):
        images.read_image(tmp_path / "p.png")


def test_resize_to_the_same_size_returns_the_input():
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


def test_resize_accepts_height_and_width():
    # Columns of 0 and 1. All rows are equal.
    x = np.broadcast_to(np.float32([0.0, 1.0])[None, None, :, None], (1, 3, 2, 1))
    resized = images.resize(x, (2, 4), method="nearest")
    np.testing.assert_array_equal(resized[0, :, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1]])
    np.testing.assert_array_equal(images.resize(x, [2, 4], method="nearest"), resized)


COLOR = (200, 100, 50)


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
        (encoded(Image.new("RGB", (2, 3), COLOR)), COLOR),
        (encoded(Image.new("L", (2, 3), 77)), (77, 77, 77)),
        (encoded(Image.new("1", (2, 3), 1)), (255, 255, 255)),
        (encoded(Image.new("RGBA", (2, 3), (*COLOR, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (2, 3), (*COLOR, 51))), (244, 224, 214)),  # 0.2 color + 0.8 white
        (encoded(Image.new("LA", (2, 3), (0, 51))), (204, 204, 204)),
        (encoded(Image.new("RGB", (2, 3), COLOR).quantize(4)), COLOR),
        (encoded(Image.new("P", (2, 3), 0), transparency=0), (255, 255, 255)),
        (encoded(Image.new("RGB", (2, 3), COLOR), "GIF"), COLOR),
        (encoded(Image.new("RGB", (2, 3), COLOR), "WEBP", lossless=True), COLOR),
        (encoded(Image.new("CMYK", (2, 3), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0)),
    ],
    ids=["rgb", "gray", "bits", "clear", "alpha", "gray-alpha", "palette", "clear-palette", "gif", "webp", "cmyk",
         "cmyk-jpeg"],
)  # fmt: skip
def test_decode_converts_all_modes_to_rgb(content, expected):
    image = images.decode(content, name="a.png")
    assert image.dtype == np.uint8 and image.shape[-1] == 3
    np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=2)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_decode_scales_16_bit_images(format):
    image = images.decode(encoded(gradient16(), format), name="a.png")
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 128, 255])


def test_decode_applies_exif_orientation():
    image = Image.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    image = images.decode(encoded(image, exif=exif), name="a.png")
    assert image.shape == (4, 2, 3)
    assert tuple(image[0, 1]) == (255, 0, 0)


def test_decode_uses_the_first_frame():
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(content, name="a.gif")[0, 0], [255, 0, 0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot identify image file"),
        (b"GIF89a", ""),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-700], "truncated"),
        (encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "truncated"),
        (encoded(Image.new("F", (2, 2), 0.5), "TIFF"), "pixels must be 8-bit or 16-bit, got floating point"),
    ],
    ids=["empty", "head", "cut-jpeg", "cut-png", "float"],
)
def test_decode_rejects_invalid_images_with_name_and_reason(content, reason):
    with pytest.raises(ValueError, match=f"image 'cat.jpg' cannot be decoded .*{reason}"):
        images.decode(content, name="cat.jpg")


def test_decode_rejects_images_over_the_size_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(ValueError, match="image 'huge.png' cannot be decoded .*exceeds limit"):
        images.decode(encoded(Image.new("RGB", (4, 4))), name="huge.png")

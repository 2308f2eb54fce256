"""Images: conversion between value ranges, resizing, and reading and writing files.

Images are RGB arrays "N H W 3", either uint8 in 0..255 (as in files and batches) or float32 in [-1, 1] (as in
networks).
"""

import io
import math
import numbers
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from unclip_jax import files
from unclip_jax.arrays import Float, UInt8

# Per-channel mean and standard deviation of CLIP's training images in 0..1, as in the released code.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_unit(images: UInt8["N H W 3"]) -> Float["N H W 3"]:
    """Converts uint8 images in 0..255 to float32 in [-1, 1].

    NumPy arrays stay NumPy arrays on the host, here and in `to_uint8`.
    """
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_uint8(images: Float["N H W 3"]) -> UInt8["N H W 3"]:
    """Converts float32 images in [-1, 1] to uint8 in 0..255 by rounding and clipping."""
    return ((images.clip(-1.0, 1.0) + 1.0) * 127.5).round().astype(np.uint8)


def check_uint8(images: UInt8["N H W 3"]) -> UInt8["N H W 3"]:
    """Returns `images` unchanged, and raises ValueError if they are not uint8 "N H W 3"."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 [N, H, W, 3], got {images.dtype} {list(images.shape)}.")
    return images


def height_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Returns the height and width of a size, where an int means a square.

    Raises:
      ValueError: If a sequence does not have two entries.
    """
    pair = (size, size) if isinstance(size, numbers.Integral) else tuple(size)
    if len(pair) != 2:
        raise ValueError(f"size must be an int or (height, width), got {size!r}.")
    return pair


def resize(
    images: Float["N h w C"], size: int | Sequence[int], *, method: str = "bicubic", antialias: bool = True
) -> Float["N H W C"]:
    """Resizes images.

    Karlo resizes the low-resolution input of its upsampler by bicubic interpolation with antialiasing. GLIDE and ADM
    use bilinear interpolation.

    Args:
      images: The images.
      size: (height, width), or an int for a square.
      method: Interpolation method of `jax.image.resize`.
      antialias: Whether to use an antialiasing filter when downsampling.

    Raises:
      ValueError: If `size` is a sequence that does not have two entries.
    """
    shape = (images.shape[0], *height_width(size), images.shape[-1])
    return images if images.shape == shape else jax.image.resize(images, shape, method, antialias=antialias)


def resize_quantized(images: Float["N h w 3"], size: int | Sequence[int]) -> Float["N H W 3"]:
    """Rounds images in [-1, 1] to 256 levels and resizes them bilinearly, as GLIDE and ADM do."""
    return resize(to_unit(to_uint8(images)), size, method="bilinear")


def clip_pixels(images: Float["N H W 3"], size: int) -> Float["N S S 3"]:
    """Prepares images in [-1, 1] for CLIP: resizes to `size` x `size` and normalizes by CLIP's statistics."""
    unit = (jnp.clip(resize(images, size), -1.0, 1.0) + 1.0) / 2.0
    return (unit - jnp.asarray(CLIP_MEAN)) / jnp.asarray(CLIP_STD)


def grid(images: UInt8["N H W 3"], *, columns: int | None = None, gap: int = 2) -> UInt8["H W 3"]:
    """Arranges images in a grid on a white background, row by row.

    Args:
      images: The images.
      columns: Number of images per row. If None, the grid is as square as possible.
      gap: Space between images in pixels.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    lines = math.ceil(count / columns)
    canvas = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def encode_png(image: UInt8["H W 3"], metadata: dict[str, str] | None = None) -> bytes:
    """Encodes an image as PNG, with `metadata` as text entries (none if None)."""
    info = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def write_png(path: epath.PathLike, image: UInt8["H W 3"], metadata: dict[str, str] | None = None) -> None:
    """Writes a PNG file atomically, with `metadata` as text entries (none if None)."""
    files.atomic_write(path, encode_png(image, metadata))


def read_image(path: epath.PathLike) -> UInt8["H W 3"]:
    """Reads an image file of any format that Pillow supports.

    See `decode` for the conversions.

    Raises:
      OSError: If the file cannot be read.
      ValueError: If it cannot be decoded (see `decode`).
    """
    return decode(epath.Path(path).read_bytes(), name=str(path))


def decode(content: bytes, *, name: str) -> UInt8["H W 3"]:
    """Decodes the content of an image file to RGB.

    The EXIF orientation is applied, transparent images are composited over white, 16-bit images are scaled to 8 bits,
    and only the first frame of an animation is used.

    Args:
      content: The bytes of the file.
      name: Name of the image for the error message.

    Raises:
      ValueError: If the content is not an image, is truncated, exceeds Pillow's size limit, or has floating-point
        pixels.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {name!r} cannot be decoded ({error}).") from error


def _rgb(image: Image.Image) -> UInt8["H W 3"]:
    if image.mode == "F":
        raise ValueError("pixels must be 8-bit or 16-bit, got floating point")
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them
        gray = np.asarray(image).astype(np.int64).clip(0, 65535)
        return np.repeat(((gray + 128) // 257).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read_png_metadata(path: epath.PathLike) -> dict[str, str]:
    """Returns the text entries of a PNG file."""
    with Image.open(io.BytesIO(epath.Path(path).read_bytes())) as image:
        return {key: str(value) for key, value in image.info.items() if isinstance(value, str)}

"""Pictures: their two ranges, their sizes, and PNG files with metadata.

A picture is either uint8 in 0..255 (`image`, what people and files hold) or float32 in [-1, 1] (what networks see).
Arrays are "N H W 3", RGB.
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

# The per-channel mean and deviation of CLIP's training pictures, in 0..1 (Radford et al. 2021, released code).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_unit(images: UInt8["N H W 3"]) -> Float["N H W 3"]:
    """uint8 0..255 to float32 [-1, 1]. Host arrays stay on the host, here and in `to_uint8`."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_uint8(images: Float["N H W 3"]) -> UInt8["N H W 3"]:
    """float32 [-1, 1] to uint8 0..255, rounded; what lies outside is clipped."""
    return ((images.clip(-1.0, 1.0) + 1.0) * 127.5).round().astype(np.uint8)


def check_uint8(images: UInt8["N H W 3"]) -> UInt8["N H W 3"]:
    """Returns the images. Raises ValueError if they are not uint8 "N H W 3"."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; uint8 [N, H, W, 3] is wanted")
    return images


def height_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Returns the height and width of a size, of which an int means a square.

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
    """Resizes images to `size`, (height, width) or an int for a square.

    Karlo enlarges a low-resolution input by bicubic interpolation with antialiasing, GLIDE and ADM by bilinear.
    """
    shape = (images.shape[0], *height_width(size), images.shape[-1])
    return images if images.shape == shape else jax.image.resize(images, shape, method, antialias=antialias)


def resize_quantized(images: Float["N h w 3"], size: int | Sequence[int]) -> Float["N H W 3"]:
    """Resizes images in [-1, 1], rounded to 256 levels, bilinearly: what GLIDE's and ADM's upsamplers receive."""
    return resize(to_unit(to_uint8(images)), size, method="bilinear")


def clip_pixels(images: Float["N H W 3"], size: int) -> Float["N S S 3"]:
    """Pictures in [-1, 1] as CLIP's image tower wants them: resized to size x size, normalised by CLIP's statistics."""
    unit = (jnp.clip(resize(images, size), -1.0, 1.0) + 1.0) / 2.0
    return (unit - jnp.asarray(CLIP_MEAN)) / jnp.asarray(CLIP_STD)


def grid(images: UInt8["N H W 3"], *, columns: int | None = None, gap: int = 2) -> UInt8["H W 3"]:
    """Pictures side by side on white, row by row. `columns` None: as square as can be."""
    images = np.asarray(images)
    count, height, width, channels = images.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    lines = math.ceil(count / columns)
    canvas = np.full((lines * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def encode_png(image: UInt8["H W 3"], metadata: dict[str, str] | None = None) -> bytes:
    """A PNG file as bytes, with `metadata` as its text entries."""
    info = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def write_png(path: epath.PathLike, image: UInt8["H W 3"], metadata: dict[str, str] | None = None) -> None:
    """Writes a PNG whole or not at all: a write that is cut off leaves no half picture under `path`."""
    files.atomic_write(path, encode_png(image, metadata))


def read_image(path: epath.PathLike) -> UInt8["H W 3"]:
    """Any picture file that Pillow knows; see `decode`. Raises ValueError for what is not a picture."""
    return decode(epath.Path(path).read_bytes(), name=str(path))


def decode(content: bytes, *, name: str) -> UInt8["H W 3"]:
    """The picture in a file's bytes, as people see it: turned as its EXIF says, transparency over white, 16 bits scaled
    to 8, and the first frame of several.

    Raises ValueError, with `name`, for what is not a picture, is cut off, is far too large, or has pixels of another
    kind (floating point).
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {name!r} cannot be read as a picture ({error})") from error


def _rgb(image: Image.Image) -> UInt8["H W 3"]:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; 8 or 16 bits are wanted")
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion clips to white
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def read_png_metadata(path: epath.PathLike) -> dict[str, str]:
    """The text entries of a PNG file."""
    with Image.open(io.BytesIO(epath.Path(path).read_bytes())) as image:
        return {key: str(value) for key, value in image.info.items() if isinstance(value, str)}

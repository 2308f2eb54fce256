"""CLIP embeddings of pictures and prompts."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence

import jax
import numpy as np
from etils import epath

from unclip_jax import images
from unclip_jax.arrays import Float, PyTree, UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.folder_update import current
from unclip_jax.models.clip import CLIP, TextFeatures
from unclip_jax.models.precision import AUTO
from unclip_jax.sharding import rules
from unclip_jax.sharding.mesh import make_mesh
from unclip_jax.sharding.placement import replicate
from unclip_jax.tokenizer import Tokenizer

ROWS = 64  # of one call of a tower


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """A trained CLIP: both towers and the tokenizer that goes with them. `params` are as in `Stage`."""

    module: CLIP
    params: PyTree
    tokenizer: Tokenizer


def load_clip(source: epath.PathLike, *, dtype: str = AUTO, tokenizer: epath.PathLike | None = None) -> Clip:
    """Opens the CLIP of a cascade (a bundled name, a cascade folder, or the stage's own folder in it), or a published
    one: a file, a folder, or its hub's name, such as "openai/clip-vit-large-patch14".

    `dtype` and `tokenizer` as in `load_cascade`. Raises ValueError for a source without a CLIP.
    """
    cascade, stage = locate_clip(source)
    return clip_of(load_cascade(cascade, stages=[stage], dtype=dtype, tokenizer=tokenizer))


def locate_clip(source: epath.PathLike) -> tuple[epath.PathLike, str]:
    """The cascade and the name of the stage in it that `source`, as in `load_clip`, stands for."""
    folder = epath.Path(source)
    wanted = (("cascade.json",), (folder.name, "config.json"))
    inside = all(current(folder.parent, *names).exists() for names in wanted)
    return (folder.parent, folder.name) if inside else (source, "clip")


def clip_of(cascade: Cascade) -> Clip:
    """The CLIP of an opened cascade."""
    stage = cascade.only("clip")
    return Clip(module=stage.module, params=stage.params, tokenizer=cascade.tokenizer)


def encode_text(clip: Clip, prompts: Sequence[str]) -> Float["N E"]:
    """Embeddings of prompts, float32, raw: their lengths are CLIP's own."""
    return text_features(clip, prompts).pooled


def encode_image(clip: Clip, pictures: UInt8["N H W 3"]) -> Float["N E"]:
    """Embeddings of pictures of any size, float32, raw. Raises ValueError for what is not uint8 "N H W 3"."""
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ValueError(f"images are {pictures.dtype} {list(pictures.shape)}; uint8 [N, H, W, 3] is wanted")
    return _in_batches(functools.partial(_encode_image, clip.module, clip.params), pictures)


def image_encoder(
    clip: Clip, devices: Sequence[jax.Device] | None = None
) -> Callable[[UInt8["N H W 3"]], Float["N E"]]:
    """`encode_image` for a whole data set: the rows of a call, at most ROWS for each of `devices` (None: all of this
    process), are spread over them, and the parameters are put there once."""
    mesh = make_mesh(devices=jax.local_devices() if devices is None else devices)
    params = replicate(clip.params, mesh.devices.ravel())
    most = ROWS * mesh.size

    def encode(pictures: UInt8["N H W 3"]) -> Float["N E"]:
        padded = np.concatenate([pictures, np.repeat(pictures[-1:], most - len(pictures), axis=0)])
        placed = jax.device_put(padded, rules.batch(mesh))
        return np.asarray(_encode_image(clip.module, params, placed))[: len(pictures)]

    return encode


def text_features(clip: Clip, prompts: Sequence[str]) -> TextFeatures:
    """All that the text tower says of prompts. A prompt that is too long is cut, with a warning that says where."""
    tokens = clip.tokenizer.encode(list(prompts), on_truncate=warnings.warn)
    return _in_batches(functools.partial(_encode_text, clip.module, clip.params), tokens)


def padded_size(rows: int, most: int) -> int:
    """The next power of two, but not more than `most`: so few sizes that little is ever compiled anew."""
    return min(1 << max(rows - 1, 0).bit_length(), most)


def _in_batches(encode, rows: np.ndarray) -> PyTree:
    """Runs `encode` on padded batches, and joins the answers as host arrays."""
    answers = []
    for start in range(0, len(rows), ROWS):
        batch = rows[start : start + ROWS]
        padding = padded_size(len(batch), ROWS) - len(batch)
        padded = np.concatenate([batch, np.repeat(batch[-1:], padding, axis=0)])
        answers.append(jax.tree.map(lambda x, n=len(batch): np.asarray(x)[:n], encode(padded)))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *answers)


@functools.partial(jax.jit, static_argnums=0)
def _encode_image(module: CLIP, params: PyTree, pictures: UInt8["N H W 3"]) -> Float["N E"]:
    pixels = images.clip_pixels(images.to_unit(pictures), module.image_size)
    return module.apply({"params": params}, pixels, method="encode_image")


@functools.partial(jax.jit, static_argnums=0)
def _encode_text(module: CLIP, params: PyTree, tokens: jax.Array) -> TextFeatures:
    return module.apply({"params": params}, tokens, method="encode_text")

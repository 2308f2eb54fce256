"""CLIP embeddings of captions and images."""

import functools
from collections.abc import Callable, Sequence

import jax
from etils import epath

from unclip_jax.arrays import Float, UInt8
from unclip_jax.cascades.folder import CONFIG, read_specs
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.sources import INDEX, is_cascade, resolve
from unclip_jax.folder_update import current
from unclip_jax.kinds import clip as kind
from unclip_jax.kinds import kind_of
from unclip_jax.models.precision import AUTO
from unclip_jax.sampling.encode import over_devices
from unclip_jax.stages.stage import Stage


def load_clip(source: epath.PathLike, *, dtype: str = AUTO, tokenizer: epath.PathLike | None = None) -> Stage:
    """Loads a CLIP model with its tokenizer.

    Args:
      source: Name of a bundled cascade, a cascade folder, the folder of a CLIP stage, or a published CLIP model: a
        file, a folder or a hub id such as "openai/clip-vit-large-patch14".
      dtype: Compute dtype, see `load_cascade`.
      tokenizer: Folder or hub id of the tokenizer of a published model, see `load_cascade`.

    Raises:
      ValueError: If the source contains no CLIP model.
    """
    cascade, name = locate_clip(source)
    return load_cascade(cascade, stages=[name], dtype=dtype, tokenizer=tokenizer).stages[name]


def locate_clip(source: epath.PathLike) -> tuple[epath.PathLike, str]:
    """Returns the cascade of a CLIP model and the name of its stage; `source` as in `load_clip`."""
    folder = epath.Path(source)
    if current(folder.parent, INDEX).exists() and current(folder.parent, folder.name, CONFIG).exists():
        return folder.parent, folder.name
    if not is_cascade(source):
        return source, "clip"
    specs = read_specs(resolve(source))
    return source, next((name for name, spec in specs.items() if kind_of(spec).produces == "features"), "clip")


def encode_text(clip: Stage, prompts: Sequence[str]) -> Float["N E"]:
    """Computes text embeddings, in float32 and not normalized.

    Args:
      clip: A CLIP model from `load_clip`.
      prompts: N captions. Captions that are too long are truncated with a warning.
    """
    return kind.text_features(clip, prompts).pooled


def encode_image(clip: Stage, pictures: UInt8["N H W 3"]) -> Float["N E"]:
    """Computes image embeddings, in float32 and not normalized.

    Args:
      clip: A CLIP model from `load_clip`.
      pictures: N images of any size.

    Raises:
      ValueError: If the images are not a uint8 array "N H W 3", or if the model has no image encoder.
    """
    return kind.image_embeddings(clip, pictures)


def image_encoder(
    clip: Stage, devices: Sequence[jax.Device] | None = None
) -> tuple[Callable[[UInt8["N H W 3"]], Float["N E"]], int]:
    """Returns a data-parallel version of `encode_image` for whole datasets.

    Args:
      clip: A CLIP model from `load_clip`.
      devices: Devices to use. If None, all devices of this process.

    Returns:
      A function that embeds images, and the maximum number of images per call.
    """
    return over_devices(functools.partial(kind.encode_pixels, clip.module), clip.params, devices)

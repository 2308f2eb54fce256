"""CLIP by itself: embeddings of captions and images."""

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
    """Loads a CLIP.

    Args:
      source: A bundled cascade's name, a cascade folder, the CLIP's own folder in it, or a published CLIP: a file, a
        folder, or its hub id, such as "openai/clip-vit-large-patch14".
      dtype: As in `load_cascade`.
      tokenizer: As in `load_cascade`.

    Returns:
      The stage, with its tokenizer.

    Raises:
      ValueError: If the source has no CLIP.
    """
    cascade, name = locate_clip(source)
    return load_cascade(cascade, stages=[name], dtype=dtype, tokenizer=tokenizer).stages[name]


def locate_clip(source: epath.PathLike) -> tuple[epath.PathLike, str]:
    """Returns the cascade of a CLIP and the name of its stage there; `source` as in `load_clip`."""
    folder = epath.Path(source)
    if current(folder.parent, INDEX).exists() and current(folder.parent, folder.name, CONFIG).exists():
        return folder.parent, folder.name
    if not is_cascade(source):
        return source, "clip"
    specs = read_specs(resolve(source))
    return source, next((name for name, spec in specs.items() if kind_of(spec).produces == "features"), "clip")


def encode_text(clip: Stage, prompts: Sequence[str]) -> Float["N E"]:
    """Returns the raw (not normalized) text embeddings of prompts, float32."""
    return kind.text_features(clip, prompts).pooled


def encode_image(clip: Stage, pictures: UInt8["N H W 3"]) -> Float["N E"]:
    """Returns the raw (not normalized) embeddings of images of any size, float32.

    Raises:
      ValueError: If the images are not uint8 "N H W 3".
    """
    return kind.image_embeddings(clip, pictures)


def image_encoder(
    clip: Stage, devices: Sequence[jax.Device] | None = None
) -> tuple[Callable[[UInt8["N H W 3"]], Float["N E"]], int]:
    """Returns `encode_image` for a whole dataset, whose rows are spread over devices (see `over_devices`)."""
    return over_devices(functools.partial(kind.encode_pixels, clip.module), clip.params, devices)

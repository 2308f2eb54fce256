"""CLIP, which embeds captions and images and provides the conditions of priors and decoders."""

import functools
import warnings
from collections.abc import Sequence

import jax
import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, PyTree, UInt8
from unclip_jax.kinds.kind import StageKind, TaskParts
from unclip_jax.models.clip import CLIP
from unclip_jax.models.text_features import TextFeatures
from unclip_jax.sampling.encode import in_batches
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage
from unclip_jax.tasks.contrastive import Contrastive, ContrastiveOptions
from unclip_jax.tokenizers.clip_bpe import Tokenizer


def text_features(stage: Stage, captions: Sequence[str]) -> TextFeatures:
    """Encodes captions into text features.

    Captions that are too long are truncated with a warning.
    """
    tokens = stage.tokenizer.encode(list(captions), on_truncate=warnings.warn)
    return in_batches(functools.partial(encode_tokens, stage.module, stage.params), tokens)


def image_embeddings(stage: Stage, pixels: UInt8["N H W 3"]) -> Float["N E"]:
    """Computes the unnormalized embeddings of images of any size.

    Raises:
      ValueError: If the images are not a uint8 array "N H W 3", or if the network has no image encoder.
    """
    pixels = images.check_uint8(np.asarray(pixels))
    return in_batches(functools.partial(encode_pixels, stage.module, stage.params), pixels)


@functools.partial(jax.jit, static_argnums=0)
def encode_pixels(module: CLIP, params: PyTree, pixels: UInt8["N H W 3"]) -> Float["N E"]:
    """Computes the unnormalized embeddings of images of any size, compiled once per shape."""
    resized = images.clip_pixels(images.to_unit(pixels), module.image_size)
    return module.apply({"params": params}, resized, method="encode_image")


@functools.partial(jax.jit, static_argnums=0)
def encode_tokens(module: CLIP, params: PyTree, tokens: jax.Array) -> TextFeatures:
    """Encodes tokens into text features."""
    return module.apply({"params": params}, tokens, method="encode_text")


def encode_text(stage: Stage, captions: Sequence[str]) -> Conditions:
    """Encodes captions into conditions, see `text_features`."""
    return Conditions(text={stage.name: text_features(stage, captions)})


def encode_images(stage: Stage, pixels: UInt8["N H W 3"]) -> Conditions:
    """Encodes images into conditions, see `image_embeddings`."""
    return Conditions(image_embedding={stage.name: image_embeddings(stage, pixels)})


def make_task(parts: TaskParts) -> Contrastive:
    """Returns the training task of the stage."""
    return Contrastive(parts.module, parts.training.micro_batches, **vars(parts.options))


KIND = StageKind(
    name="clip",
    network=CLIP,
    produces="features",
    batch_fields=("image", "tokens"),
    options=ContrastiveOptions,
    auxiliary=Contrastive.auxiliary,
    make_task=make_task,
    encode_text=encode_text,
    tokenizer=Tokenizer,
    encode_images=encode_images,
    image_encoder_size=lambda module: module.image_size if module.image_width is not None else None,
)

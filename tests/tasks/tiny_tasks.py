"""Tiny tasks, one of each kind, and eight training examples."""

import jax
import numpy as np

from unclip_jax import images
from unclip_jax.diffusion import schedule
from unclip_jax.models.clip import CLIP
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.upsampler import Upsampler
from unclip_jax.tasks.contrastive import Contrastive
from unclip_jax.tasks.decoder import DecoderTask
from unclip_jax.tasks.diffusion_prior import DiffusionPriorTask
from unclip_jax.tasks.upsampler import UpsamplerTask

ROWS, LENGTH, EOT = 8, 6, 31
EMPTY = np.array([30, EOT, 0, 0, 0, 0], np.int32)
COSINE = schedule.cosine(1000)
CLIP_MODEL = CLIP(
    embed_dim=16,
    image_size=16,
    patch_size=4,
    image_width=32,
    image_layers=2,
    image_heads=2,
    vocab_size=32,
    context_length=LENGTH,
    text_width=16,
    text_layers=2,
    text_heads=2,
)


def batch() -> dict:
    """Returns eight smooth images with different captions."""
    generator = np.random.default_rng(0)
    small = generator.uniform(0, 255, (ROWS, 4, 4, 3)).astype(np.float32)
    image = np.asarray(jax.image.resize(small, (ROWS, 16, 16, 3), "linear")).astype(np.uint8)
    tokens = np.zeros((ROWS, LENGTH), np.int32)
    tokens[:, 0], tokens[:, 1], tokens[:, 2], tokens[:, 3] = 30, np.arange(1, 9), np.arange(11, 19), EOT
    return {
        "image": image,
        "clip_image": image,
        "low_res": small / 127.5 - 1.0,
        "tokens": tokens,
        "row": np.arange(ROWS, dtype=np.int32),
    }


def clip_params(key: jax.Array) -> dict:
    """Returns parameters of a random CLIP, whose embeddings differ between the eight images and captions."""
    pixels = images.clip_pixels(images.to_unit(batch()["image"]), 16)
    return CLIP_MODEL.init(key, pixels, batch()["tokens"])["params"]


def frozen() -> dict:
    params = clip_params(jax.random.key(7))
    pixels = images.clip_pixels(images.to_unit(batch()["image"]), 16)
    z = np.asarray(CLIP_MODEL.apply({"params": params}, pixels, method="encode_image"))
    return {"clip": params, "statistics": {"mean": z.mean(0), "std": z.std(0)}}


def prior_task(**drops) -> DiffusionPriorTask:
    model = DiffusionPrior(embed_dim=16, text_width=16, context_length=LENGTH, width=32, layers=2, heads=2)
    return DiffusionPriorTask(model, CLIP_MODEL, COSINE, EMPTY, **drops)


def decoder_task(**drops) -> DecoderTask:
    model = Decoder(
        image_size=16,
        channels=16,
        channel_mult=(1, 2),
        res_blocks=1,
        attention_resolutions=(8,),
        head_channels=16,
        embed_dim=16,
        text_width=16,
        context_width=16,
        groups=8,
    )
    return DecoderTask(model, CLIP_MODEL, COSINE, EMPTY, **drops)


def upsampler_task(**settings) -> UpsamplerTask:
    model = Upsampler(image_size=16, channels=16, channel_mult=(1, 2), res_blocks=1, groups=8)
    return UpsamplerTask(model, COSINE, **settings)


def clip_task() -> Contrastive:
    return Contrastive(CLIP_MODEL)

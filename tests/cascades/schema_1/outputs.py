"""Outputs of the cascade folders next to this file. The functions in use exist in all versions of the package."""

import pathlib

import jax
import numpy as np

import unclip_jax
from unclip_jax.cascades.text_to_image import sample_prior

UPSAMPLER = "upsampler_8_to_16"
PROMPTS = ["a red", "ring"]
LABELS = [1, 4]


def opened(folder: pathlib.Path):
    """Loads a cascade in float32 on one device."""
    return unclip_jax.load_cascade(folder, devices=jax.local_devices()[:1], dtype="float32")


def outputs(root: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns embeddings (float32) and images (uint8) of every cascade in `root`, sampled with a few steps."""
    arrays = _clip(root / "clip") | _karlo(root / "karlo") | _guided_diffusion(root / "guided_diffusion")
    return arrays | _glide(root / "glide") | _glide(root / "glide_inpaint")


def _clip(folder: pathlib.Path) -> dict[str, np.ndarray]:
    clip = unclip_jax.load_clip(folder, dtype="float32")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    return {
        "clip/text_embedding": np.asarray(unclip_jax.encode_text(clip, PROMPTS)),
        "clip/image_embedding": np.asarray(unclip_jax.encode_image(clip, pixels)),
    }


def _karlo(folder: pathlib.Path) -> dict[str, np.ndarray]:
    cascade, steps = opened(folder), {"prior": 3, "decoder": 3, UPSAMPLER: 3}
    return {
        "karlo/text_embedding": np.asarray(unclip_jax.encode_text(unclip_jax.load_clip(folder), PROMPTS)),
        "karlo/image_embedding": np.asarray(sample_prior(cascade, PROMPTS, seed=1)),
        "karlo/decoder": unclip_jax.text_to_image(cascade, PROMPTS, seed=2, steps=steps, stop_after="decoder"),
        "karlo/upsampler": unclip_jax.text_to_image(cascade, PROMPTS, seed=3, steps=steps),
    }


def _glide(folder: pathlib.Path) -> dict[str, np.ndarray]:
    cascade, steps = opened(folder), {"base": 3, UPSAMPLER: 3}
    return {
        f"{folder.name}/base": unclip_jax.text_to_image(cascade, PROMPTS, seed=2, steps=steps, stop_after="base"),
        f"{folder.name}/upsampler": unclip_jax.text_to_image(cascade, PROMPTS, seed=3, steps=steps),
    }


def _guided_diffusion(folder: pathlib.Path) -> dict[str, np.ndarray]:
    cascade, steps = opened(folder), {"base": 3, UPSAMPLER: 3}
    return {
        "guided_diffusion/base": unclip_jax.class_to_image(cascade, LABELS, seed=2, steps=steps, stop_after="base"),
        "guided_diffusion/upsampler": unclip_jax.class_to_image(cascade, LABELS, seed=3, steps=steps),
    }

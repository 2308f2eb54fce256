"""A cascade of tiny random networks, written as a folder: no tensor of it is zeros or ones.

Its networks predict x0: the eps of random weights sends every pixel to the ends of its range, where all are equal.
"""

import pathlib

import numpy as np

from tests.randomised import randomise
from unclip_jax.cascades.cascade import shapes
from unclip_jax.cascades.folder import write_stages
from unclip_jax.models.registry import network
from unclip_jax.tokenizer import train_tokenizer

CAPTIONS = ["a red circle on a blue background", "a green ring", "a small star to the left of a large cross"]
EMBED, CONTEXT, VOCAB = 16, 16, 600
COSINE = {"schedule": "cosine", "steps": 1000, "clip_x0": 1.0}
CONFIGS = {
    "clip": {
        "kind": "clip",
        "model": {
            "embed_dim": EMBED, "image_size": 16, "patch_size": 8, "image_width": 16, "image_layers": 1,
            "image_heads": 2, "vocab_size": VOCAB, "context_length": CONTEXT, "text_width": EMBED, "text_layers": 1,
            "text_heads": 2,
        },
    },
    "diffusion_prior": {
        "kind": "diffusion_prior",
        "model": {
            "embed_dim": EMBED, "text_width": EMBED, "context_length": CONTEXT, "width": 32, "layers": 3, "heads": 2,
        },
        "diffusion": {**COSINE, "clip_x0": 5.0, "predicts": "x0", "variance": "fixed_small"},
        "sampling": {"sampler": "ddpm", "steps": 5, "scale": 2.0, "candidates": 2},
    },
    "decoder": {
        "kind": "decoder",
        "model": {
            "image_size": 8, "channels": 16, "channel_mult": [1, 2], "res_blocks": 1, "attention_resolutions": [4],
            "head_channels": 8, "embed_dim": EMBED, "text_width": EMBED, "context_width": 16, "groups": 8,
        },
        "diffusion": {**COSINE, "predicts": "x0", "variance": "learned_range"},
        "sampling": {"sampler": "ddpm", "steps": 6, "scale": 3.0},
    },
    "upsampler_8_to_16": {
        "kind": "upsampler",
        "model": {"image_size": 16, "channels": 16, "channel_mult": [1, 2], "res_blocks": 1, "groups": 8},
        "diffusion": {**COSINE, "predicts": "x0", "variance": "fixed_small"},
        "sampling": {"sampler": "ddim", "steps": 3, "scale": 1.0, "eta": 0.0},
    },
}  # fmt: skip


def write_tiny_cascade(folder: pathlib.Path) -> pathlib.Path:
    """Writes the cascade into a new folder, and returns it."""
    train_tokenizer(CAPTIONS, vocab_size=VOCAB, context_length=CONTEXT, directory=folder.parent / "tokenizer")
    stages = {}
    for seed, (name, config) in enumerate(CONFIGS.items()):
        expected = shapes(config["kind"], network(config["kind"], config["model"]))
        stages[name] = (config, randomise(expected, seed))
    statistics = {"mean": np.linspace(-1, 1, EMBED), "std": np.linspace(1, 4, EMBED)}
    write_stages(
        folder,
        stages,
        tokenizer=folder.parent / "tokenizer",
        statistics=statistics,
        draws="one or two shapes",
        order=list(CONFIGS),
    )
    return folder

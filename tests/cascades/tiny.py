"""Cascade folder of tiny networks with random parameters.

The networks predict x0. With random networks that predict eps, clipping would saturate every pixel and make all images
equal.
"""

import dataclasses
import pathlib

import numpy as np

from tests.randomised import randomise
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.kinds import kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.stages.spec import StageSpec, from_json
from unclip_jax.tokenizers.clip_bpe import train_tokenizer

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
        "sampling": {"sampler": "ddpm", "steps": 5, "guidance_scale": 2.0, "candidates": 2},
        "encoders": {"clip": {"stage": "clip"}},
    },
    "decoder": {
        "kind": "decoder",
        "model": {
            "image_size": 8, "channels": 16, "channel_mult": [1, 2], "res_blocks": 1, "attention_resolutions": [4],
            "head_channels": 8, "embed_dim": EMBED, "text_width": EMBED, "context_width": 16, "groups": 8,
        },
        "diffusion": {**COSINE, "predicts": "x0", "variance": "learned_range"},
        "sampling": {"sampler": "ddpm", "steps": 6, "guidance_scale": 3.0},
        "encoders": {"clip": {"stage": "clip"}},
    },
    "upsampler_8_to_16": {
        "kind": "upsampler",
        "model": {"image_size": 16, "channels": 16, "channel_mult": [1, 2], "res_blocks": 1, "groups": 8},
        "diffusion": {**COSINE, "predicts": "x0", "variance": "fixed_small"},
        "sampling": {"sampler": "ddim", "steps": 3, "guidance_scale": 1.0, "eta": 0.0},
        "low_res_size": 8,
    },
}  # fmt: skip


def write_tiny_cascade(folder: pathlib.Path) -> pathlib.Path:
    """Writes the cascade to a new folder and returns the folder."""
    train_tokenizer(CAPTIONS, vocab_size=VOCAB, context_length=CONTEXT, directory=folder.parent / "tokenizer")
    stages = {}
    statistics = EmbeddingStatistics(mean=np.linspace(-1, 1, EMBED), std=np.linspace(1, 4, EMBED))
    for seed, name in enumerate(CONFIGS):
        params = randomise(parameter_shapes(kind_of(spec(name)).build(spec(name), where=name)), seed)
        stages[name] = files(name, params)
    stages["clip"] = dataclasses.replace(stages["clip"], tokenizer=folder.parent / "tokenizer")
    stages["diffusion_prior"] = dataclasses.replace(stages["diffusion_prior"], extras=statistics.to_extras())
    write_stages(folder, stages, description="one or two shapes")
    return folder


def spec(name: str) -> StageSpec:
    return from_json(name, {"schema": 2, **CONFIGS[name]}, where=name)


def files(name: str, params) -> StageFiles:
    return StageFiles(spec(name), params)

"""A training config of the kind "blob", which whoever uses it has to make known."""

import os

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.task = ConfigDict({"kind": "blob", "stage": "blobs", "drop_text": 0.25})
    config.model = ConfigDict({"image_size": 16, "embed_dim": 16, "text_width": 16, "context_length": 16})
    config.encoders.clip = os.environ["BLOB_CLIP"]
    config.diffusion.predicts = "x0"
    config.data.source = "captioned_shapes/tiny"
    config.data.image_size = 16
    config.data.captions = True
    config.data.threads = 0
    config.training.global_batch = 8
    config.training.steps = 2
    config.sampling = ConfigDict({"sampler": "ddim", "steps": 4, "guidance_scale": 2.0})
    return config

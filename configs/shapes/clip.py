"""CLIP on captioned shapes: 64 px images, captions of up to 32 tokens, 128-dimensional embeddings.

Architecture and loss: Radford et al. 2021 (arXiv 2103.00020), Sections 2.3 to 2.5, at a small size, with negative
    captions (Yuksekgonul et al. 2023, arXiv 2210.01936) and scene targets predicted from the image embedding.
Expected: 100% retrieval among 256 complete captions. 99.7% of 300 images of two objects are closer to their caption
    than to the same caption with its relation reversed. 47 minutes on two CPU cores.
Run:      unclip train --config=configs/shapes/clip.py --workdir=runs/clip
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    """Returns the config that trains the stage `clip`."""
    config = default_config()
    config.task = ConfigDict({"kind": "clip", "stage": "clip", "moments_weight": 10.0})
    config.model = ConfigDict(
        {
            "embed_dim": 128,
            "image_size": 64,
            "patch_size": 8,
            "image_width": 128,
            "image_layers": 4,
            "image_heads": 4,
            "vocab_size": 1024,
            "context_length": 32,
            "text_width": 128,
            "text_layers": 3,
            "text_heads": 4,
            "activation": "quick_gelu",
        }
    )
    config.data.image_field = "thumbnail"
    config.data.image_size = 64
    config.data.source = "captioned_shapes/contrasts"
    config.data.captions = True
    config.data.negative_captions = True  # without them, color alone is enough to tell the captions of a batch apart
    config.data.scene_targets = True
    config.data.cache = True  # 0.8 GB

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.optimizer.b2 = 0.98  # Radford et al., for ViT image encoders
    config.optimizer.weight_decay = 0.05
    config.training.global_batch = 128
    config.training.steps = 5000
    return config

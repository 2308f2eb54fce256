"""Diffusion prior on captioned shapes: predicts a CLIP image embedding from a caption.

Architecture: Karlo's PriorTransformer, at a small size. Loss and conditioning dropout: unCLIP (arXiv 2204.06125),
    Section 2.2.
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/diffusion_prior.py --workdir=runs/diffusion_prior
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    """Returns the config that trains the stage `diffusion_prior`."""
    config = default_config()
    config.task = ConfigDict({"kind": "diffusion_prior", "stage": "diffusion_prior", "drop_text": 0.1})
    config.model = ConfigDict(
        {
            "embed_dim": 128,
            "text_width": 128,
            "context_length": 32,
            "width": 192,
            "layers": 4,
            "heads": 6,
        }
    )
    config.encoders.clip = "shapes"
    config.diffusion.predicts = "x0"
    config.diffusion.variance = "fixed_small"
    config.diffusion.clip_x0 = 5.0  # in standard deviations; embeddings are standardized

    config.data.image_field = "thumbnail"
    config.data.image_size = 64
    config.data.captions = True

    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.optimizer.b2 = 0.96  # unCLIP, Table 3
    config.optimizer.weight_decay = 0.06
    config.training.global_batch = 128
    config.training.steps = 9000
    # Without guidance, the prior replaces held-out pairs by the closest pair from training. With strong guidance, it
    # interpolates between colors if the caption names none. One candidate per decoder sample: keeping the better of
    # two under CLIP gave worse images.
    config.sampling = ConfigDict({"sampler": "ddpm", "steps": 16, "guidance_scale": 2.5})
    return config

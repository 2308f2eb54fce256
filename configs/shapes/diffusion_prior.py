"""The diffusion prior on captioned shapes: from a caption to the CLIP embedding of its picture.

Architecture: Karlo's PriorTransformer at a small size. Loss and drops: unCLIP (arXiv 2204.06125), section 2.2.
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/diffusion_prior.py --workdir=runs/diffusion_prior
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
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
    config.diffusion.clip_x0 = 5.0  # in deviations; the embeddings are standardised

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
    # Unguided it draws, of pairs that were never shown, the nearest one that was; guided much, where a caption names no
    # colour, one between two. One candidate for each of the decoder's: of two, the one nearer to the caption is the
    # worse drawn.
    config.sampling = ConfigDict({"sampler": "ddpm", "steps": 16, "guidance_scale": 2.5})
    return config

"""Second upsampler on captioned shapes: 64 to 256 px, trained on full images.

Architecture: ADM's U-Net without attention or text (unCLIP, arXiv 2204.06125, Section 2.1), with a linear schedule
    (Table 3).
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/upsampler_64_to_256.py --workdir=runs/upsampler_64_to_256
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    """Returns the config that trains the stage `upsampler_64_to_256`."""
    config = default_config()
    # With few sampling steps, the first one, which starts from pure noise, determines the result. Sample most training
    # timesteps near it.
    config.task = ConfigDict({"kind": "upsampler", "stage": "upsampler_64_to_256", "logit_normal": (2.0, 1.5)})
    # With one channel per group, GroupNorm would remove each channel's mean and with it flat colors. Use at least four
    # channels per group.
    config.model = ConfigDict(
        {"image_size": 256, "channels": 16, "channel_mult": (1, 1, 2, 4), "res_blocks": 1, "groups": 4}
    )
    config.diffusion.schedule = "linear"
    # At this size, eps trains too slowly: its errors are divided by sqrt(alpha_bar_t) when converted to x0, which
    # shifts colors.
    config.diffusion.predicts = "x0"
    config.diffusion.variance = "fixed_small"
    config.diffusion.clip_x0 = 1.0

    config.data.image_field = "image"
    config.data.image_size = 256
    config.data.low_res_size = 64
    config.data.blur = ConfigDict({"kernel": 3, "sigma": 0.6, "share": 0.5})

    config.optimizer.learning_rate = 6e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 0.0
    config.training.global_batch = 2
    config.training.steps = 12000
    config.training.ema_decay = 0.999
    config.sampling = ConfigDict({"sampler": "ddim", "steps": 2, "guidance_scale": 1.0, "eta": 0.0})
    return config

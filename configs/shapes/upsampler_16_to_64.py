"""First upsampler on captioned shapes: 16 to 64 px, trained on full images.

Architecture: ADM's U-Net without attention or text (unCLIP, arXiv 2204.06125, Section 2.1), like Karlo's.
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/upsampler_16_to_64.py --workdir=runs/upsampler_16_to_64
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    """Returns the config that trains the stage `upsampler_16_to_64`."""
    config = default_config()
    # With few sampling steps, the first one, which starts from pure noise, determines the result. Sample most training
    # timesteps near it.
    config.task = ConfigDict({"kind": "upsampler", "stage": "upsampler_16_to_64", "logit_normal": (2.0, 1.5)})
    # With one channel per group, GroupNorm would remove each channel's mean and with it flat colors. Use at least four
    # channels per group.
    config.model = ConfigDict(
        {"image_size": 64, "channels": 32, "channel_mult": (1, 2, 2), "res_blocks": 1, "groups": 8}
    )
    # At this size, eps trains too slowly: its errors are divided by sqrt(alpha_bar_t) when converted to x0, which
    # shifts colors.
    config.diffusion.predicts = "x0"
    config.diffusion.variance = "fixed_small"
    config.diffusion.clip_x0 = 1.0

    config.data.image_field = "thumbnail"
    config.data.image_size = 64
    # Train on full images. Crops are cheaper, but at this size most of a crop is close to its border, and dependencies
    # longer than half a crop are never learned.
    config.data.crop_fraction = 1.0
    config.data.low_res_size = 16
    config.data.blur = ConfigDict({"kernel": 3, "sigma": 0.6, "share": 0.5})
    # Add noise of up to this standard deviation to the low-resolution input, because the decoder's images are not
    # clean. With more noise, the upsampler relies on its training data instead of its input and replaces held-out pairs
    # by pairs from training.
    config.data.noise = 0.1

    config.optimizer.learning_rate = 6e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 0.0
    config.training.global_batch = 8
    config.training.steps = 8000
    config.training.ema_decay = 0.999
    config.sampling = ConfigDict({"sampler": "ddim", "steps": 5, "guidance_scale": 1.0, "eta": 0.0})
    return config

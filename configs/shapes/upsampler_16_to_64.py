"""The first upsampler on captioned shapes: 16 to 64 px, on whole pictures.

Architecture: ADM's U-Net without attention or text (unCLIP, arXiv 2204.06125, section 2.1), as Karlo's.
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/upsampler_16_to_64.py --workdir=runs/upsampler_16_to_64
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    config = default_config()
    # It is sampled in a few steps, and the first of them, from noise alone, decides: most rows learn that one.
    config.task = ConfigDict({"kind": "upsampler", "stage": "upsampler_16_to_64", "logit_normal": (2.0, 1.5)})
    # A norm of one channel alone would take away its mean, and with it the colours: four and more to a group.
    config.model = ConfigDict(
        {"image_size": 64, "channels": 32, "channel_mult": (1, 2, 2), "res_blocks": 1, "groups": 8}
    )
    # At this size eps would be learned too slowly: an error of it, divided by sqrt(alpha_bar_t), shifts whole colours.
    config.diffusion.predicts = "x0"
    config.diffusion.variance = "fixed_small"
    config.diffusion.clip_x0 = 1.0

    config.data.image_field = "thumbnail"
    config.data.image_size = 64
    # Crops are cheaper, but at this size mostly border: what is farther from one than half a crop is never learned.
    config.data.crop_fraction = 1.0
    config.data.low_res_size = 16
    config.data.blur = ConfigDict({"kernel": 3, "sigma": 0.6, "share": 0.5})
    # The decoder's pictures are not clean: it learns to mend what a deviation of up to this much does to them. With
    # more it trusts what it sees less than what it knows, and makes of pairs that it never saw those that it did.
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

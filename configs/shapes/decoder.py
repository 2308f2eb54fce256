"""Decoder on captioned shapes: generates a 16 px image from a CLIP image embedding and a caption.

Architecture: Karlo's decoder (GLIDE's U-Net, conditioned as in unCLIP, arXiv 2204.06125, Section 2.1), at a small size.
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/decoder.py --workdir=runs/decoder
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    """Returns the config that trains the stage `decoder`."""
    config = default_config()
    config.task = ConfigDict(
        {
            "kind": "decoder",
            "stage": "decoder",
            "drop_image": 0.1,
            "drop_text": 0.5,
            # For held-out pairs, the prior interpolates between colors from training. With jittered colors, the decoder
            # learns to follow the color in the caption instead.
            "color_jitter": 0.5,
            "vb_weight": 1e-5,
            # Sample most timesteps at signal-to-noise ratios between 1 and 100, where outlines are decided. The weight
            # of the x0 loss is the signal-to-noise ratio, clipped to [1, 10].
            "logit_normal": (-0.8, 1.2),
            "snr_clip": (1.0, 10.0),
        }
    )
    config.model = ConfigDict(
        {
            "image_size": 16,
            "channels": 64,
            "channel_mult": (1, 2, 3),
            "res_blocks": 2,
            "attention_resolutions": (8, 4),
            "head_channels": 32,
            # In 32 groups of two channels, GroupNorm would remove the mean of each pair and with it flat colors.
            "groups": 8,
            "embed_dim": 128,
            "text_width": 128,
            "context_width": 128,
        }
    )
    config.encoders.clip = "shapes"
    # Errors of eps are divided by sqrt(alpha_bar_t) when converted to x0, which shifts colors. v trains fastest (it is
    # close to x0 at high noise and to eps at low noise), but diffusers' scheduler for unCLIP does not support it.
    config.diffusion.predicts = "x0"
    config.diffusion.variance = "learned_range"
    config.diffusion.clip_x0 = 1.0

    config.data.source = "captioned_shapes/recoloured"  # half in unnamed colors, half with two objects
    config.data.image_field = "thumbnail"
    config.data.image_size = 16
    config.data.clip_size = 64
    config.data.captions = True
    config.data.cache = True  # 0.8 GB

    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 200
    config.optimizer.weight_decay = 0.0
    config.training.global_batch = 32
    config.training.steps = 15000
    config.training.ema_decay = 0.999
    # Sample four candidates and keep the one closest to the caption under CLIP. About 1 s per image at 12 steps.
    config.sampling = ConfigDict({"sampler": "ddim", "steps": 12, "guidance_scale": 1.5, "eta": 0.0, "candidates": 4})
    return config

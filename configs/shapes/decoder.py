"""The decoder on captioned shapes: from a CLIP embedding and a caption to a 16 px picture.

Architecture: Karlo's decoder (GLIDE's U-Net, conditioned as in unCLIP, arXiv 2204.06125, section 2.1) at a small size.
Expected: see configs/shapes/README.md.
Run:      unclip train --config=configs/shapes/decoder.py --workdir=runs/decoder
"""

from ml_collections import ConfigDict

from unclip_jax.experiment import default_config


def get_config() -> ConfigDict:
    config = default_config()
    config.task = ConfigDict(
        {
            "kind": "decoder",
            "stage": "decoder",
            "drop_image": 0.1,
            "drop_text": 0.5,
            # Of pairs never shown the prior makes colours between those that it knows: the caption's word decides.
            "color_jitter": 0.5,
            "vb_weight": 1e-5,
            # Most rows at ratios of signal to noise between 1 and 100, where outlines are won or lost; and up to 10 an
            # error of x0 weighs the more, the less noise there is to excuse it.
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
            "groups": 8,  # 32 would leave two channels to a norm, which takes their mean, and with it colours, away
            "embed_dim": 128,
            "text_width": 128,
            "context_width": 128,
        }
    )
    config.encoders.clip = "shapes"
    # An error of eps, divided by sqrt(alpha_bar_t), shifts whole colours. v, which is x0 where there is noise and eps
    # where there is none, learns fastest; but diffusers' scheduler for unCLIP does not know it.
    config.diffusion.predicts = "x0"
    config.diffusion.variance = "learned_range"
    config.diffusion.clip_x0 = 1.0

    config.data.source = "captioned_shapes/recoloured"  # half in colours that no word stands for, half of two objects
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
    # Of four pictures the one that CLIP finds nearest to the caption: with the 12 steps of each, a second a picture.
    config.sampling = ConfigDict({"sampler": "ddim", "steps": 12, "guidance_scale": 1.5, "eta": 0.0, "candidates": 4})
    return config

"""Configurations of published networks by name: the stage kind and the fields of its network.

    network.build(Decoder, preset("karlo_decoder")[1])
    config.model = ConfigDict(preset("unclip_decoder")[1])

Sources: CLIP (arXiv 2103.00020, Table 20) and OpenCLIP's configs; Karlo v1 alpha's configs; GLIDE's code (arXiv
2112.10741); guided-diffusion's flags (arXiv 2105.05233, appendix); unCLIP (arXiv 2204.06125, Table 3). Values that this
table does not specify are marked below. They are chosen so that the number of parameters is close to the table's.
"""

from typing import Any

from unclip_jax.errors import choose

_TEXT = {"vocab_size": 49408, "context_length": 77}
_CLIP_B = {
    **_TEXT, "embed_dim": 512, "image_size": 224, "image_width": 768, "image_layers": 12, "image_heads": 12,
    "text_width": 512, "text_layers": 12, "text_heads": 8,
}  # fmt: skip
_ADM = {"out_channels": 6, "attention_resolutions": (32, 16, 8)}
_ADM_256 = {**_ADM, "image_size": 256, "channels": 256, "channel_mult": (1, 1, 2, 2, 4, 4), "res_blocks": 2}
_CLASSIFIER = {"channels": 128, "res_blocks": 2, "attention_resolutions": (32, 16, 8), "num_classes": 1000}
_UPSAMPLER = {"channels": 192, "channel_mult": (1, 1, 2, 2, 4, 4), "res_blocks": 2, "in_channels": 6}

_GLIDE_BASE = {
    "image_size": 64, "channels": 192, "channel_mult": (1, 2, 3, 4), "res_blocks": 3,
    "attention_resolutions": (32, 16, 8), "head_channels": 64, "dropout": 0.1, "vocab_size": 50257,
    "context_length": 128, "text_width": 512, "text_layers": 16, "text_heads": 8,
}  # fmt: skip
_GLIDE_UPSAMPLE = {
    **_GLIDE_BASE, "image_size": 256, "channel_mult": (1, 1, 2, 2, 4, 4), "res_blocks": 2, "in_channels": 6,
}  # fmt: skip

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "clip_vit_b_32": ("clip", {**_CLIP_B, "patch_size": 32}),
    "clip_vit_b_16": ("clip", {**_CLIP_B, "patch_size": 16}),
    "clip_vit_l_14": (
        "clip",
        {
            **_TEXT, "embed_dim": 768, "image_size": 224, "patch_size": 14, "image_width": 1024, "image_layers": 24,
            "image_heads": 16, "text_width": 768, "text_layers": 12, "text_heads": 12,
        },
    ),
    "clip_vit_h_14": (
        "clip",
        {
            **_TEXT, "embed_dim": 1024, "image_size": 224, "patch_size": 14, "image_width": 1280, "image_layers": 32,
            "image_heads": 16, "text_width": 1024, "text_layers": 24, "text_heads": 16, "activation": "gelu",
        },
    ),
    "clip_vit_bigg_14": (
        "clip",
        {
            **_TEXT, "embed_dim": 1280, "image_size": 224, "patch_size": 14, "image_width": 1664, "image_layers": 48,
            "image_heads": 16, "image_mlp_ratio": 4.9231, "text_width": 1280, "text_layers": 32, "text_heads": 20,
            "activation": "gelu",
        },
    ),
    "karlo_prior": (
        "diffusion_prior",
        {"embed_dim": 768, "text_width": 768, "context_length": 77, "width": 2048, "layers": 20, "heads": 32},
    ),
    "karlo_decoder": (
        "decoder",
        {
            "image_size": 64, "channels": 320, "channel_mult": (1, 2, 3, 4), "res_blocks": 3,
            "attention_resolutions": (32, 16, 8), "head_channels": 64, "dropout": 0.1, "embed_dim": 768,
            "text_width": 768, "context_width": 1536,
        },
    ),
    "karlo_upsampler": (
        "upsampler",
        {"image_size": 256, "channels": 320, "channel_mult": (1, 2, 3, 4), "res_blocks": 3},
    ),
    "glide_base": ("glide", _GLIDE_BASE),
    "glide_base_inpaint": ("glide", {**_GLIDE_BASE, "in_channels": 7}),
    "glide_upsample": ("glide", _GLIDE_UPSAMPLE),
    "glide_upsample_inpaint": ("glide", {**_GLIDE_UPSAMPLE, "in_channels": 10}),
    "glide_noised_clip": (
        "noised_clip",
        {
            "embed_dim": 512, "image_size": 64, "patch_size": 4, "image_width": 768, "image_layers": 12,
            "image_heads": 12, "vocab_size": 65536, "context_length": 77, "text_width": 512, "text_layers": 12,
            "text_heads": 8, "noise_steps": 1000,
        },
    ),
    "guided_diffusion_64": (
        "unet",
        {
            **_ADM, "image_size": 64, "channels": 192, "channel_mult": (1, 2, 3, 4), "res_blocks": 3, "dropout": 0.1,
            "num_classes": 1000,
        },
    ),
    "guided_diffusion_128": (
        "unet",
        {
            **_ADM, "image_size": 128, "channels": 256, "channel_mult": (1, 1, 2, 3, 4), "res_blocks": 2,
            "num_heads": 4, "num_classes": 1000,
        },
    ),
    "guided_diffusion_256": ("unet", {**_ADM_256, "num_classes": 1000}),
    "guided_diffusion_256_uncond": ("unet", _ADM_256),
    "guided_diffusion_512": (
        "unet",
        {**_ADM_256, "image_size": 512, "channel_mult": (0.5, 1, 1, 2, 2, 4, 4), "num_classes": 1000},
    ),
    "guided_diffusion_64_256_upsampler": (
        "unet",
        {**_ADM, **_UPSAMPLER, "image_size": 256, "num_heads": 4, "num_classes": 1000},
    ),
    "guided_diffusion_128_512_upsampler": (
        "unet",
        {**_ADM, **_UPSAMPLER, "image_size": 512, "attention_resolutions": (32, 16), "num_classes": 1000},
    ),
    "guided_diffusion_64_classifier": (
        "noised_classifier",
        {**_CLASSIFIER, "image_size": 64, "channel_mult": (1, 2, 3, 4), "res_blocks": 4},
    ),
    "guided_diffusion_128_classifier": (
        "noised_classifier",
        {**_CLASSIFIER, "image_size": 128, "channel_mult": (1, 1, 2, 3, 4)},
    ),
    "guided_diffusion_256_classifier": (
        "noised_classifier",
        {**_CLASSIFIER, "image_size": 256, "channel_mult": (1, 1, 2, 2, 4, 4)},
    ),
    "guided_diffusion_512_classifier": (
        "noised_classifier",
        {**_CLASSIFIER, "image_size": 512, "channel_mult": (0.5, 1, 1, 2, 2, 4, 4)},
    ),
    "lsun_256": ("unet", {**_ADM_256, "dropout": 0.1}),
    # Table 3: 1B parameters, width 2048, 24 layers. The head width of 64 is chosen.
    "unclip_prior": (
        "diffusion_prior",
        {"embed_dim": 1024, "text_width": 1024, "context_length": 77, "width": 2048, "layers": 24, "heads": 32},
    ),
    # Table 3: 3.5B parameters, 512 channels, 3 blocks, head width 64; text with length 256, width 2048, 24 layers, 32
    # heads. The vocabulary size is chosen to be GLIDE's.
    "unclip_decoder": (
        "glide",
        {
            **_GLIDE_BASE, "channels": 512, "context_length": 256, "text_width": 2048, "text_layers": 24,
            "text_heads": 32, "embed_dim": 1024,
        },
    ),
    # Table 3: 700M parameters, 320 channels, 3 blocks, multipliers 1, 2, 3, 4, no attention.
    "unclip_upsampler_64_to_256": (
        "upsampler",
        {"image_size": 256, "channels": 320, "channel_mult": (1, 2, 3, 4), "res_blocks": 3, "dropout": 0.1},
    ),
    # Table 3: 300M parameters, 192 channels, 2 blocks, multipliers 1, 1, 2, 2, 4, 4, no attention. This gives 267M.
    "unclip_upsampler_256_to_1024": (
        "upsampler",
        {"image_size": 1024, "channels": 192, "channel_mult": (1, 1, 2, 2, 4, 4), "res_blocks": 2},
    ),
}  # fmt: skip


def preset(name: str) -> tuple[str, dict[str, Any]]:
    """Returns the kind and the fields of a published network.

    The fields are a copy and may be modified. Raises ValueError if the name is unknown.
    """
    kind, fields = choose(PRESETS, name, "preset")
    return kind, dict(fields)

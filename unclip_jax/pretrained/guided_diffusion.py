"""The diffusion models and upsamplers that guided-diffusion published (arXiv 2105.05233), as `models.unet.UNet`.

An upsampler is the same network: the low-resolution picture, enlarged bilinearly by the caller, stands as three more
channels behind the noised picture's. It has attention and labels, so that `models.upsampler.Upsampler` cannot be it.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.adm_unet import adm_fields, adm_rules
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.weight_mapping import Rule

# What the shapes in a published file do not tell, by the file's name without .pt: arguments of the functions below.
# Source: the flags in the repository's README.
UNSEEN: dict[str, dict[str, Any]] = {
    "64x64_diffusion": {"image_size": 64},
    "128x128_diffusion": {"image_size": 128, "num_heads": 4},
    "256x256_diffusion": {"image_size": 256},
    "256x256_diffusion_uncond": {"image_size": 256},
    "512x512_diffusion": {"image_size": 512},
    "64_256_upsampler": {"image_size": 256, "num_heads": 4},
    "128_512_upsampler": {"image_size": 512},
    "lsun_bedroom": {"image_size": 256},
    "lsun_cat": {"image_size": 256},
    "lsun_horse": {"image_size": 256},
    "lsun_horse_nodropout": {"image_size": 256},
}
NEW_ATTENTION_ORDER = ("64x64_diffusion",)


def guided_diffusion_fields(
    tensors: Mapping[str, StoredTensor], *, image_size: int, head_channels: int = 64, num_heads: int | None = None
) -> dict[str, Any]:
    """The fields of `models.unet.UNet`. The rest as in `adm_fields`."""
    return adm_fields(tensors, image_size=image_size, head_channels=head_channels, num_heads=num_heads)


def guided_diffusion_rules(fields: Mapping[str, Any], *, new_attention_order: bool = False) -> list[Rule]:
    """The U-Net's parameters. new_attention_order: as in `adm_rules`."""
    return adm_rules(fields, new_attention_order=new_attention_order)

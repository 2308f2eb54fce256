"""The diffusion models and upsamplers of guided-diffusion (arXiv 2105.05233), as `models.unet.UNet`.

An upsampler is the same network with three more input channels, which contain the resized low-resolution image. It has
attention and class labels, which `models.upsampler.Upsampler` does not have.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_layouts.adm import adm_fields, adm_rules

# Arguments of `guided_diffusion_fields` that shapes do not determine, by the name of the file without .pt. Source: the
# README of the repository.
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
    tensors: Mapping[str, LazyTensor], *, image_size: int, head_channels: int = 64, num_heads: int | None = None
) -> dict[str, Any]:
    """Returns the fields of `models.unet.UNet`. Arguments as in `adm_fields`."""
    return adm_fields(tensors, image_size=image_size, head_channels=head_channels, num_heads=num_heads)


def guided_diffusion_rules(fields: Mapping[str, Any], *, new_attention_order: bool = False) -> list[Rule]:
    """Returns the rules of the U-Net. Arguments as in `adm_rules`."""
    return adm_rules(fields, new_attention_order=new_attention_order)

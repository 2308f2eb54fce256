"""Diffusion models and upsamplers of guided-diffusion (arXiv 2105.05233), as `models.unet.UNet`.

An upsampler has three additional input channels for the resized low-resolution image. Unlike
`models.upsampler.Upsampler`, it has attention and class labels.
"""

from collections.abc import Mapping
from typing import Any

from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.rules import Rule
from unclip_jax.pretrained.unet_layouts.adm import adm_fields, adm_rules

# Arguments of `guided_diffusion_fields` by file name without ".pt", from the README of guided-diffusion.
FILE_SETTINGS: dict[str, dict[str, Any]] = {
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
    """Returns the fields of `models.unet.UNet`, derived from tensor shapes.

    Args:
      tensors: The tensors of the network.
      image_size: Size of its images, which the shapes do not determine.
      head_channels: Width of an attention head, which the shapes do not determine. Unused if `num_heads` is given.
      num_heads: Number of attention heads. If None, it follows from `head_channels`.

    Raises:
      KeyError: If a tensor is missing.
    """
    return adm_fields(tensors, image_size=image_size, head_channels=head_channels, num_heads=num_heads)


def guided_diffusion_rules(fields: Mapping[str, Any], *, new_attention_order: bool = False) -> list[Rule]:
    """Returns the rules of the U-Net.

    Args:
      fields: Fields of `models.unet.UNet`.
      new_attention_order: Whether the rows of a qkv projection are ordered [q, k, v][head][width].
    """
    return adm_rules(fields, new_attention_order=new_attention_order)

"""The upsampler: a U-Net of convolutions alone that sees a low-resolution picture (unCLIP, arXiv 2204.06125, 2.1).

The low-resolution image, resized to the output size by the caller, is concatenated after the channels of x_t. Without
attention and text it may be trained on crops and applied to whole pictures.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.unet import unet_of


class Upsampler(nn.Module):
    """One evaluation of the upsampler. Fields: as in UNet; scale_shift is False in Karlo."""

    image_size: int | tuple[int, int]
    channels: int
    channel_mult: tuple[float, ...]
    res_blocks: int
    dropout: float = 0.0
    groups: int = 32
    scale_shift: bool = False
    in_channels: int = 6
    out_channels: int = 3
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x_t: Float["B H W 3"], t: Int["B"], low_res: Float["B H W 3"], *, deterministic: bool = True
    ) -> Float["B H W 3"]:
        """x_t: noised pictures.  t: steps of the training schedule.  low_res: of x_t's size, in [-1, 1]."""
        if low_res.shape[:3] != x_t.shape[:3]:
            raise ValueError(f"low_res is {list(low_res.shape)}; enlarge it to {list(x_t.shape)}, the size of x_t")
        return unet_of(self)(x_t, t, extra_channels=low_res, deterministic=deterministic)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        x = jnp.zeros((1, *height_width(self.image_size), self.in_channels))
        return {"x_t": x[..., :3], "t": jnp.zeros(1, jnp.int32), "low_res": x[..., 3:]}

"""Diffusion upsampler: a convolutional U-Net conditioned on a low-resolution image.

The architecture is that of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.1). The caller resizes the
low-resolution image to the output size, and it is concatenated after the channels of x_t. Since there is no attention
and no text, the network can be trained on crops and applied to full images.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.unet import unet_of


class Upsampler(nn.Module):
    """Upsampler network.

    All fields that are not listed are described in `UNetEncoder`.

    Args:
      scale_shift: As in `UNetEncoder`. It is False in Karlo.
      in_channels: Number of channels of `x_t` and `low_res` together.
      out_channels: Number of output channels.
    """

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
        """Predicts the noise (or another parameterization).

        Args:
          x_t: Noisy images.
          t: Training step of each row.
          low_res: Low-resolution images in [-1, 1], resized to the size of `x_t`.
          deterministic: Whether to disable dropout.

        Raises:
          ValueError: If `low_res` and `x_t` differ in size, or if they do not fit the network.
        """
        if low_res.shape[:3] != x_t.shape[:3]:
            raise ValueError(
                f"low_res must be resized to {list(x_t.shape)}, the shape of x_t, got {list(low_res.shape)}."
            )
        return unet_of(self)(x_t, t, extra_channels=low_res, deterministic=deterministic)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        x = jnp.zeros((1, *height_width(self.image_size), self.in_channels))
        return {"x_t": x[..., :3], "t": jnp.zeros(1, jnp.int32), "low_res": x[..., 3:]}

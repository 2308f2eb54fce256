"""Down path and bottleneck of a U-Net, shared by the U-Net and the noised classifier.

`models.unet` lists the blocks and their names.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.images import height_width
from unclip_jax.models.layers import TimeEmbedding, timestep_sinusoid
from unclip_jax.models.unet_blocks import AttentionBlock, ResBlock, conv3x3, upsample_nearest_2x

# (h, name, channels[, "down" or "up"]) -> h and (h, name) -> h, with time embedding and context already bound.
RunBlock = Callable[..., Float["B H W C"]]
RunAttention = Callable[[Float["B H W C"], str], Float["B H W C"]]


class UNetEncoder(nn.Module):
    """Base class of networks with the down path and bottleneck of a U-Net.

    Args:
      image_size: Size of the images that the network is designed for: (height, width), or an int for a square. Together
        with `attention_resolutions` it determines which levels have attention.
      in_channels: Number of input channels.
      channels: Base number of channels. The time embedding is four times as wide.
      channel_mult: Channel multiplier of each level. Its length is the number of levels.
      res_blocks: Number of residual blocks per level, R.
      attention_resolutions: Shorter sides in pixels of the levels with attention, for images of `image_size`. If not
        empty, the bottleneck also has attention.
      head_channels: Width of an attention head, if `num_heads` is None.
      num_heads: Number of attention heads. If None, it follows from `head_channels`.
      dropout: Dropout rate of the residual blocks. 0 disables it.
      groups: Number of groups of the norms. Must divide the channels of every level. With one channel per group,
        GroupNorm removes each channel's mean and with it flat colors. Use at least four channels per group.
      scale_shift: Whether the time embedding scales and shifts (ADM) or is added (DDPM, Karlo's upsampler).
      resblock_updown: Whether residual blocks resample (ADM). If False, downsampling is a strided convolution and
        upsampling is nearest neighbor followed by a convolution (DDPM).
      dtype: Compute dtype. Norms, softmax, the time embedding and the last layer are float32.
      remat: Whether to rematerialize each block in the backward pass instead of storing its activations.
    """

    image_size: int | tuple[int, int]
    in_channels: int = 3
    channels: int = 64
    channel_mult: tuple[float, ...] = (1, 2, 4)
    res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = ()
    head_channels: int = 64
    num_heads: int | None = None
    dropout: float = 0.0
    groups: int = 32
    scale_shift: bool = True
    resblock_updown: bool = True
    dtype: Any = jnp.float32
    remat: bool = False

    def _down_path(self, x: Float["B H W C"], block: RunBlock, attention: RunAttention) -> list[Float["B H W C"]]:
        """Returns the skip connections of conv_in and all levels, the last of which is the bottleneck's input."""
        last = len(self.channel_mult) - 1
        h = conv3x3(self._width(0), self.dtype, "conv_in")(x)
        skips = [h]
        for level in range(last + 1):
            for r in range(self.res_blocks):
                h = block(h, f"down_{level}_block_{r}", self._width(level))
                h = attention(h, f"down_{level}_attention_{r}") if self._is_attentive(level) else h
                skips.append(h)
            if level < last:
                h = self._resample(h, f"down_{level}_downsample", "down", block)
                skips.append(h)
        return skips

    def _bottleneck(self, h: Float["B H W C"], block: RunBlock, attention: RunAttention) -> Float["B H W C"]:
        h = block(h, "middle_block_0", h.shape[-1])
        h = attention(h, "middle_attention") if self.attention_resolutions else h
        return block(h, "middle_block_1", h.shape[-1])

    def _width(self, level: int) -> int:
        return int(self.channels * self.channel_mult[level])

    def _side(self, level: int) -> int:
        """Returns the shorter side of a level's images, for images of image_size."""
        return min(height_width(self.image_size)) >> level

    def _is_attentive(self, level: int) -> bool:
        return self._side(level) in self.attention_resolutions

    def _time_embedding(self, t: Int["B"]) -> Float["B 4C"]:
        return TimeEmbedding(4 * self.channels, name="time_embedding")(timestep_sinusoid(t, self.channels))

    def _res_block(self, name: str, channels: int, resample: str | None, deterministic: bool) -> ResBlock:
        block_type = nn.remat(ResBlock) if self.remat else ResBlock
        return block_type(
            channels,
            resample,
            self.scale_shift,
            self.dropout,
            self.groups,
            deterministic,
            self.dtype,
            name=name,
        )

    def _attention(self, name: str, channels: int) -> AttentionBlock:
        block_type = nn.remat(AttentionBlock) if self.remat else AttentionBlock
        return block_type(self._heads(channels), self.groups, self.dtype, name=name)

    def _resample(self, h: Float["B H W C"], name: str, direction: str, block: RunBlock) -> Float["B H W C"]:
        channels = h.shape[-1]
        if self.resblock_updown:
            return block(h, name, channels, direction)
        if direction == "up":
            return conv3x3(channels, self.dtype, name)(upsample_nearest_2x(h))
        return nn.Conv(channels, (3, 3), strides=2, padding=1, dtype=self.dtype, name=name)(h)

    def _heads(self, channels: int) -> int:
        heads = channels // self.head_channels if self.num_heads is None else self.num_heads
        if heads == 0 or channels % heads or (self.num_heads is None and channels % self.head_channels):
            field = "head_channels" if self.num_heads is None else "num_heads"
            raise ValueError(f"{field} must divide the {channels} channels of a level, got {getattr(self, field)}.")
        return heads

    def _check_images(self, x: Float["B H W C"]) -> None:
        """Raises ValueError if fields are inconsistent or the images do not fit them."""
        halvings = len(self.channel_mult) - 1
        for name, size in (("image_size", self.image_size), ("height", x.shape[1]), ("width", x.shape[2])):
            if any(side % 2**halvings for side in height_width(size)):
                raise ValueError(
                    f"{name} must be a multiple of {2**halvings} for the {halvings + 1} levels of channel_mult "
                    f"{self.channel_mult}, got {size}."
                )
        for level, mult in enumerate(self.channel_mult):
            if self._width(level) % self.groups or not self._width(level):
                raise ValueError(
                    f"groups must divide the {self._width(level)} channels of level {level} "
                    f"(channels {self.channels} * {mult}), got {self.groups}."
                )
        sides = [self._side(level) for level in range(halvings + 1)]
        unknown = [side for side in self.attention_resolutions if side not in sides]
        if unknown:
            raise ValueError(f"attention_resolutions must be among the sides of the levels, {sides}, got {unknown}.")
        if x.shape[-1] != self.in_channels:
            raise ValueError(f"images must have {self.in_channels} channels (in_channels), got {x.shape[-1]}.")

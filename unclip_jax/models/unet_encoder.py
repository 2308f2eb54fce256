"""The way down of a U-Net and its middle: what the U-Net and the noised classifier have in common.

Which blocks there are, and what they are called, is told in `models.unet`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int
from unclip_jax.images import height_width
from unclip_jax.models.layers import TimeEmbedding, timestep_sinusoid
from unclip_jax.models.unet_blocks import AttentionBlock, ResBlock, conv3x3, doubled

# (h, name, channels, "down" or "up" where it resamples) -> h, and (h, name) -> h: blocks that know time and context.
RunBlock = Callable[..., Float["B H W C"]]
RunAttention = Callable[[Float["B H W C"], str], Float["B H W C"]]


class UNetEncoder(nn.Module):
    """Fields and parts of a network that begins as a U-Net does; what it answers, the class that inherits says.

    Args:
      image_size: Size of the images it was designed for: (height, width), or an int for a square. Together with
        `attention_resolutions` it determines which levels have attention.
      in_channels: of pictures.
      channels: base width; the time embedding has four times as many.
      channel_mult: factor of each level; its length is the number of levels.
      res_blocks: R, blocks a level.
      attention_resolutions: Shorter sides in pixels of the levels with attention, for images of image_size. If not
        empty, the middle has attention too.
      head_channels, num_heads: width of a head; or their number, where that is not None.
      dropout: rate in the residual blocks.
      groups: of the norms; must divide the channels of every level. A group of one channel loses that channel's mean,
        and with it flat colours: leave four and more to each.
      scale_shift: whether time scales and shifts (ADM) or is added (DDPM, Karlo's upsampler).
      resblock_updown: whether down- and upsampling are residual blocks (ADM) or a strided, a plain convolution (DDPM).
      dtype: type of the computation; norms, softmax, time embedding and the last layer are float32.
      remat: whether a backward pass computes each block anew instead of keeping its values.
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

    def _way_down(self, x: Float["B H W C"], block: RunBlock, attention: RunAttention) -> list[Float["B H W C"]]:
        """conv_in and all levels. Returns the skips that they leave, of which the last one goes on to the middle."""
        last = len(self.channel_mult) - 1
        h = conv3x3(self._width(0), self.dtype, "conv_in")(x)
        skips = [h]
        for level in range(last + 1):
            for r in range(self.res_blocks):
                h = block(h, f"down_{level}_block_{r}", self._width(level))
                h = attention(h, f"down_{level}_attention_{r}") if self._is_attentive(level) else h
                skips.append(h)
            if level < last:
                h = self._resampled(h, f"down_{level}_downsample", "down", block)
                skips.append(h)
        return skips

    def _middle(self, h: Float["B H W C"], block: RunBlock, attention: RunAttention) -> Float["B H W C"]:
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

    def _resampled(self, h: Float["B H W C"], name: str, direction: str, block: RunBlock) -> Float["B H W C"]:
        channels = h.shape[-1]
        if self.resblock_updown:
            return block(h, name, channels, direction)
        if direction == "up":
            return conv3x3(channels, self.dtype, name)(doubled(h))
        return nn.Conv(channels, (3, 3), strides=2, padding=1, dtype=self.dtype, name=name)(h)

    def _heads(self, channels: int) -> int:
        heads = channels // self.head_channels if self.num_heads is None else self.num_heads
        if heads == 0 or channels % heads or (self.num_heads is None and channels % self.head_channels):
            field = "head_channels" if self.num_heads is None else "num_heads"
            raise ValueError(f"{field} {getattr(self, field)} does not divide a level's {channels} channels")
        return heads

    def _check_pictures(self, x: Float["B H W C"]) -> None:
        """Raises ValueError where fields do not fit each other, or the pictures."""
        halvings = len(self.channel_mult) - 1
        for name, size in (("image_size", self.image_size), ("height", x.shape[1]), ("width", x.shape[2])):
            if any(side % 2**halvings for side in height_width(size)):
                raise ValueError(
                    f"{name} {size} cannot be halved {halvings} times, as the {halvings + 1} levels of channel_mult "
                    f"{self.channel_mult} want; use a multiple of {2**halvings}"
                )
        for level, mult in enumerate(self.channel_mult):
            if self._width(level) % self.groups or not self._width(level):
                raise ValueError(
                    f"groups {self.groups} does not divide the {self._width(level)} channels of level {level} "
                    f"(channels {self.channels} * {mult}); use a divisor of them all"
                )
        sides = [self._side(level) for level in range(halvings + 1)]
        strays = [side for side in self.attention_resolutions if side not in sides]
        if strays:
            raise ValueError(f"attention_resolutions {strays} are no level's side; known: {sides}")
        if x.shape[-1] != self.in_channels:
            raise ValueError(f"pictures have {x.shape[-1]} channels, and in_channels is {self.in_channels}")

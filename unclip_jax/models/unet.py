"""The U-Net of Improved DDPM, ADM, GLIDE and Karlo: one module for all of them.

    conv_in
    down_l_block_r (+ down_l_attention_r)   for r = 0..R-1          for every level l = 0..L-1;
    down_l_downsample                       for l < L-1
    middle_block_0, middle_attention, middle_block_1
    up_l_block_r (+ up_l_attention_r)       for r = 0..R            for every level l = L-1..0;
    up_l_upsample                           for l > 0
    norm_out, SiLU, conv_out (zero at first)

With L levels and R = res_blocks, level l has channels * channel_mult[l] channels and pictures of a 2^-l-th of the side.
A skip is left by conv_in, by every block of the way down (after its attention) and by every down_l_downsample; a
block of the way up takes the youngest that is left and stands it behind its input: concat([h, skip]).
In the published numbering down_l_block_r is input_blocks.{1 + l(R+1) + r}, down_l_downsample input_blocks.{(l+1)(R+1)}
and, with d = L-1-l, up_l_block_r is output_blocks.{d(R+1) + r}; up_l_upsample is the last part of the entry at r = R.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int
from unclip_jax.models.layers import GroupNorm, TimeEmbedding, timestep_sinusoid
from unclip_jax.models.unet_blocks import AttentionBlock, ResBlock, conv3x3, doubled, zeros


def unet_of(module: nn.Module, **fields: Any) -> "UNet":
    """The U-Net within another network, named "unet": with the fields that `module` has too, and those given beside."""
    names = {field.name for field in dataclasses.fields(UNet)} & {field.name for field in dataclasses.fields(module)}
    shared = {name: getattr(module, name) for name in names - {"parent", "name"}}
    return UNet(**(shared | fields), name="unet")


class UNet(nn.Module):
    """One evaluation of the U-Net.

    Args:
      image_size: side at which it was designed; with `attention_resolutions` it says which levels have attention. A
        network may be applied at another size (an upsampler is trained on crops).
      in_channels, out_channels: of pictures.
      channels: base width; the time embedding has four times as many.
      channel_mult: factor of each level; its length is the number of levels.
      res_blocks: R, blocks a level.
      attention_resolutions: sides in pixels of the levels with attention, for pictures of image_size. Where there is
        one, the middle has attention too; empty: no attention at all.
      head_channels, num_heads: width of a head; or their number, where that is not None.
      dropout: rate in the residual blocks.
      groups: of the norms; must divide the channels of every level. A group of one channel loses that channel's mean,
        and with it flat colours: leave four and more to each.
      scale_shift: whether time scales and shifts (ADM) or is added (DDPM, Karlo's upsampler).
      resblock_updown: whether down- and upsampling are residual blocks (ADM) or a strided, a plain convolution (DDPM).
      num_classes: number of class labels, whose embedding is added to that of time; None: there are none.
      context_width: width of the context that attention sees; None: there is none.
      dtype: type of the computation; norms, softmax, time embedding and the last convolution are float32.
      remat: whether a backward pass computes each block anew instead of keeping its values.
    """

    image_size: int
    in_channels: int = 3
    out_channels: int = 3
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
    num_classes: int | None = None
    context_width: int | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float["B H W C"],
        t: Int["B"],
        *,
        embedding: Float["B 4C"] | None = None,
        labels: Int["B"] | None = None,
        context: Float["B L D"] | None = None,
        context_mask: Bool["B L"] | None = None,
        deterministic: bool = True,
    ) -> Float["B H W C"]:
        """
        Args:
          x: pictures, their sides divisible by 2^(levels - 1).
          t: steps of the training schedule.
          embedding: is added to that of time.
          labels: classes, where num_classes is set.
          context, context_mask: tokens that attention sees, where context_width is set, and which of them (None: all).
          deterministic: switches dropout off.

        Returns float32.
        """
        self._check(x, labels, context)
        emb = self._embedding(t, embedding, labels)
        last = len(self.channel_mult) - 1
        attentive = [self.image_size >> level in self.attention_resolutions for level in range(last + 1)]

        def block(h, name, channels, resample=None):
            return self._res_block(name, channels, resample, deterministic)(h, emb)

        def attention(h, name):
            return self._attention(name, h.shape[-1])(h, context, context_mask)

        h = conv3x3(self._width(0), self.dtype, "conv_in")(x)
        skips = [h]
        for level in range(last + 1):
            for r in range(self.res_blocks):
                h = block(h, f"down_{level}_block_{r}", self._width(level))
                h = attention(h, f"down_{level}_attention_{r}") if attentive[level] else h
                skips.append(h)
            if level < last:
                h = self._resampled(h, f"down_{level}_downsample", "down", block)
                skips.append(h)

        h = block(h, "middle_block_0", self._width(last))
        h = attention(h, "middle_attention") if self.attention_resolutions else h
        h = block(h, "middle_block_1", self._width(last))

        for level in reversed(range(last + 1)):
            for r in range(self.res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, f"up_{level}_block_{r}", self._width(level))
                h = attention(h, f"up_{level}_attention_{r}") if attentive[level] else h
            if level > 0:
                h = self._resampled(h, f"up_{level}_upsample", "up", block)

        h = nn.silu(GroupNorm(self.groups, name="norm_out")(h))
        return conv3x3(self.out_channels, jnp.float32, "conv_out", kernel_init=zeros)(h)

    def _width(self, level: int) -> int:
        return int(self.channels * self.channel_mult[level])

    def _embedding(self, t: Int["B"], embedding: Float["B 4C"] | None, labels: Int["B"] | None) -> Float["B 4C"]:
        emb = TimeEmbedding(4 * self.channels, name="time_embedding")(timestep_sinusoid(t, self.channels))
        if embedding is not None:
            emb = emb + embedding
        if self.num_classes is not None:
            emb = emb + nn.Embed(self.num_classes, 4 * self.channels, name="label_embedding")(labels)
        return emb

    def _res_block(self, name: str, channels: int, resample: str | None, deterministic: bool) -> ResBlock:
        kind = nn.remat(ResBlock) if self.remat else ResBlock
        return kind(
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
        kind = nn.remat(AttentionBlock) if self.remat else AttentionBlock
        return kind(self._heads(channels), self.groups, self.dtype, name=name)

    def _resampled(self, h: Float["B H W C"], name: str, direction: str, block: Any) -> Float["B H W C"]:
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

    def _check(self, x: Float["B H W C"], labels: Int["B"] | None, context: Float["B L D"] | None) -> None:
        halvings = len(self.channel_mult) - 1
        for name, side in (("image_size", self.image_size), ("height", x.shape[1]), ("width", x.shape[2])):
            if side % 2**halvings:
                raise ValueError(
                    f"{name} {side} cannot be halved {halvings} times, as the {halvings + 1} levels of channel_mult "
                    f"{self.channel_mult} want; use a multiple of {2**halvings}"
                )
        for level, mult in enumerate(self.channel_mult):
            if self._width(level) % self.groups or not self._width(level):
                raise ValueError(
                    f"groups {self.groups} does not divide the {self._width(level)} channels of level {level} "
                    f"(channels {self.channels} * {mult}); use a divisor of them all"
                )
        sides = [self.image_size >> level for level in range(halvings + 1)]
        strays = [side for side in self.attention_resolutions if side not in sides]
        if strays:
            raise ValueError(f"attention_resolutions {strays} are no level's side; known: {sides}")
        if x.shape[-1] != self.in_channels:
            raise ValueError(f"pictures have {x.shape[-1]} channels, and in_channels is {self.in_channels}")
        for name, value, field in (("labels", labels, "num_classes"), ("context", context, "context_width")):
            if (value is None) != (getattr(self, field) is None):
                raise ValueError(f"{name} and {field} go together: set both or neither")

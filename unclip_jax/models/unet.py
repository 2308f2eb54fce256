"""U-Net of Improved DDPM, ADM, GLIDE and Karlo.

The modules are, in order:

    conv_in
    down_l_block_r (+ down_l_attention_r)   for r = 0..R-1          for every level l = 0..L-1;
    down_l_downsample                       for l < L-1
    middle_block_0, middle_attention, middle_block_1
    up_l_block_r (+ up_l_attention_r)       for r = 0..R            for every level l = L-1..0;
    up_l_upsample                           for l > 0
    norm_out, SiLU, conv_out (initialized to zero)

With L levels and R = res_blocks, level l has channels * channel_mult[l] channels, and its images are smaller by a
factor of 2^l. conv_in, every block of the down path (after its attention) and every down_l_downsample produce a skip
connection. Each up block pops the most recent one and concatenates it after its input: concat([h, skip]).

In the numbering of published weights, down_l_block_r is input_blocks.{1 + l(R+1) + r}, down_l_downsample is
input_blocks.{(l+1)(R+1)} and, with d = L-1-l, up_l_block_r is output_blocks.{d(R+1) + r}. up_l_upsample is the last
part of the output block at r = R.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.layers import GroupNorm
from unclip_jax.models.unet_blocks import conv3x3, zeros
from unclip_jax.models.unet_encoder import UNetEncoder


def unet_of(module: nn.Module, **fields: Any) -> "UNet":
    """Creates the submodule "unet" of another network.

    Args:
      module: The network. The U-Net copies all fields that both have.
      **fields: Further fields of the U-Net, which take precedence.
    """
    names = {field.name for field in dataclasses.fields(UNet)} & {field.name for field in dataclasses.fields(module)}
    shared = {name: getattr(module, name) for name in names - {"parent", "name"}}
    return UNet(**(shared | fields), name="unet")


class UNet(UNetEncoder):
    """U-Net.

    It can be applied to other sizes than `image_size`, such as crops for training an upsampler. All fields that are not
    listed are described in `UNetEncoder`.

    Args:
      out_channels: Number of output channels.
      num_classes: Number of class labels. Their embeddings are added to the time embedding. If None, the network is not
        class-conditional.
      context_width: Width of the context tokens. If None, there is no context.
    """

    out_channels: int = 3
    num_classes: int | None = None
    context_width: int | None = None

    @nn.compact
    def __call__(
        self,
        x: Float["B H W C"],
        t: Int["B"],
        *,
        extra_channels: Float["B H W C"] | None = None,
        embedding: Float["B 4C"] | None = None,
        labels: Int["B"] | None = None,
        context: Float["B L D"] | None = None,
        context_mask: Bool["B L"] | None = None,
        deterministic: bool = True,
    ) -> Float["B H W C"]:
        """Runs the U-Net and returns a float32 output.

        Args:
          x: Images. Height and width must be divisible by 2^(levels - 1).
          t: Training step of each row.
          extra_channels: Further channels with the height and width of `x`, concatenated after `x`. If None, `x` has
            all `in_channels`.
          embedding: Embedding of further conditions, which is added to the time embedding. If None, nothing is added.
          labels: Class labels. Required if and only if `num_classes` is set.
          context: Context tokens for attention. Required if and only if `context_width` is set.
          context_mask: False for context tokens that are padding. If None, there is no padding.
          deterministic: Whether to disable dropout.

        Raises:
          ValueError: If the inputs do not fit the fields, or the fields are inconsistent.
        """
        if extra_channels is not None:
            x = self._with_extra_channels(x, extra_channels)
        self._check(x, labels, context)
        emb = self._embedding(t, embedding, labels)

        def block(h, name, channels, resample=None):
            return self._res_block(name, channels, resample, deterministic)(h, emb)

        def attention(h, name):
            return self._attention(name, h.shape[-1])(h, context, context_mask)

        skips = self._down_path(x, block, attention)
        h = self._bottleneck(skips[-1], block, attention)
        for level in reversed(range(len(self.channel_mult))):
            for r in range(self.res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, f"up_{level}_block_{r}", self._width(level))
                h = attention(h, f"up_{level}_attention_{r}") if self._is_attentive(level) else h
            if level > 0:
                h = self._resample(h, f"up_{level}_upsample", "up", block)

        h = nn.silu(GroupNorm(self.groups, name="norm_out")(h))
        return conv3x3(self.out_channels, jnp.float32, "conv_out", kernel_init=zeros)(h)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks.

        `x` has all `in_channels`. The context, if there is one, has 8 tokens. Any number of tokens is accepted.
        """
        inputs = {
            "x": jnp.zeros((1, *height_width(self.image_size), self.in_channels)),
            "t": jnp.zeros(1, jnp.int32),
        }
        if self.num_classes is not None:
            inputs["labels"] = jnp.zeros(1, jnp.int32)
        if self.context_width is not None:
            inputs["context"] = jnp.zeros((1, 8, self.context_width))
        return inputs

    def _embedding(self, t: Int["B"], embedding: Float["B 4C"] | None, labels: Int["B"] | None) -> Float["B 4C"]:
        emb = self._time_embedding(t)
        if embedding is not None:
            emb = emb + embedding
        if self.num_classes is not None:
            emb = emb + nn.Embed(self.num_classes, 4 * self.channels, name="label_embedding")(labels)
        return emb

    def _with_extra_channels(self, x: Float["B H W C"], extra_channels: Float["B H W C"]) -> Float["B H W C"]:
        if extra_channels.shape[:-1] != x.shape[:-1]:
            expected, actual = [*x.shape[:-1], "C"], list(extra_channels.shape)
            raise ValueError(f"extra_channels must have shape {expected}, got {actual}.")
        return jnp.concatenate([x, extra_channels], axis=-1)

    def _check(self, x: Float["B H W C"], labels: Int["B"] | None, context: Float["B L D"] | None) -> None:
        self._check_images(x)
        for name, value, field in (("labels", labels, "num_classes"), ("context", context, "context_width")):
            if (value is None) != (getattr(self, field) is None):
                raise ValueError(f"{name} and {field} must be set together. Set both or neither.")

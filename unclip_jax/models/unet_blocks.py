"""Residual block and attention block of ADM's U-Net (Dhariwal and Nichol 2021, arXiv 2105.05233).

Residual block, where g = SiLU of GroupNorm and `resample` is the identity, a 2x downsampling or a 2x upsampling:

    h = conv_1(resample(g_1(x)));   e = time(SiLU(embedding))
    scale_shift:  h = SiLU((1 + a) GN_2(h) + b), (a, b) = e        additive:  h = g_2(h + e)
    output:       skip(resample(x)) + conv_2(dropout(h)),          conv_2 initialized to zero

Attention block: pixels attend to context and pixels. Keys and values of the context have their own projection
`context`, are not normalized, and precede those of the pixels.

Layouts, with N heads of width K: qkv kernel [C, 3, N, K] (second axis: query, key, value), context kernel [D, 2, N, K]
(key, value), out kernel [N, K, C]. skip is a 1x1 convolution with kernel [C_in, C_out].
"""

from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float
from unclip_jax.models.layers import GroupNorm, torch_default_init
from unclip_jax.models.transformer import attend

zeros = nn.initializers.zeros


def conv3x3(channels: int, dtype: Any, name: str, kernel_init: Any = torch_default_init) -> nn.Conv:
    """Creates a 3x3 convolution that preserves height and width."""
    return nn.Conv(channels, (3, 3), padding=1, dtype=dtype, kernel_init=kernel_init, name=name)


def average_pool_2x(x: Float["B H W C"]) -> Float["B H/2 W/2 C"]:
    """Averages blocks of 2x2 pixels of images whose height and width are even."""
    return einops.reduce(x, "b (h 2) (w 2) c -> b h w c", "mean")


def upsample_nearest_2x(x: Float["B H W C"]) -> Float["B 2H 2W C"]:
    """Repeats every pixel 2x2 times (nearest neighbor)."""
    return einops.repeat(x, "b h w c -> b (h 2) (w 2) c")


RESAMPLE = {None: lambda x: x, "down": average_pool_2x, "up": upsample_nearest_2x}


class ResBlock(nn.Module):
    """Residual block with time conditioning.

    Args:
      channels: Number of output channels. If it differs from that of the input, the skip path is a 1x1 convolution.
      resample: None, "down" (halves height and width) or "up" (doubles them).
      scale_shift: Whether the time embedding scales and shifts the output of the second norm. If False, it is added to
        the input of the second norm.
      dropout: Dropout rate. 0 disables it.
      groups: Number of groups of the norms.
      deterministic: Whether to disable dropout. If False, dropout uses the RNG collection "dropout".
      dtype: Compute dtype. Norms are float32.
    """

    channels: int
    resample: str | None = None
    scale_shift: bool = True
    dropout: float = 0.0
    groups: int = 32
    deterministic: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float["B H W C"], embedding: Float["B D"]) -> Float["B H W C"]:
        """Applies the block, given the time embedding (with other conditions added to it)."""
        resample = RESAMPLE[self.resample]
        h = nn.silu(GroupNorm(self.groups, self.dtype, name="norm_1")(x))
        h = conv3x3(self.channels, self.dtype, "conv_1")(resample(h))
        h = self._add_time(h, embedding)
        h = nn.Dropout(self.dropout, deterministic=self.deterministic)(h)
        h = conv3x3(self.channels, self.dtype, "conv_2", kernel_init=zeros)(h)
        x = resample(x)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=self.dtype, kernel_init=torch_default_init, name="skip")(x)
        return x + h

    def _add_time(self, h: Float["B H W C"], embedding: Float["B D"]) -> Float["B H W C"]:
        features = 2 * self.channels if self.scale_shift else self.channels
        time = nn.Dense(features, dtype=self.dtype, kernel_init=torch_default_init, name="time")(nn.silu(embedding))
        time = time[:, None, None, :]
        norm = GroupNorm(self.groups, self.dtype, name="norm_2")
        if not self.scale_shift:
            return nn.silu(norm(h + time))
        scale, shift = jnp.split(time, 2, axis=-1)
        return nn.silu(norm(h) * (1 + scale) + shift)


class AttentionBlock(nn.Module):
    """Residual attention block, whose output projection is initialized to zero.

    Args:
      heads: Number of attention heads. Must divide the number of channels.
      groups: Number of groups of the norm.
      dtype: Compute dtype. The norm and softmax are float32.
    """

    heads: int
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float["B H W C"], context: Float["B L D"] | None = None, context_mask: Bool["B L"] | None = None
    ) -> Float["B H W C"]:
        """Applies the block.

        Args:
          x: Images.
          context: Context tokens. If None, pixels only attend to pixels.
          context_mask: False for context tokens that are padding. If None, there is no padding.
        """
        rows, height, width, channels = x.shape
        head = (self.heads, channels // self.heads)
        h = GroupNorm(self.groups, self.dtype, name="norm")(x).reshape(rows, height * width, channels)
        q, k, v = jnp.unstack(self._project((3, *head), "qkv")(h), axis=2)
        mask = None
        if context is not None:
            context_k, context_v = jnp.unstack(self._project((2, *head), "context")(context), axis=2)
            k = jnp.concatenate([context_k, k], axis=1)
            v = jnp.concatenate([context_v, v], axis=1)
            if context_mask is not None:
                pixels = jnp.ones((rows, height * width), bool)
                mask = jnp.concatenate([context_mask, pixels], axis=1)[:, None, None, :]
        h = attend(q, k, v, mask)
        h = nn.DenseGeneral(channels, axis=(-2, -1), dtype=self.dtype, kernel_init=zeros, name="out")(h)
        return x + h.reshape(x.shape)

    def _project(self, features: tuple[int, int, int], name: str) -> nn.DenseGeneral:
        return nn.DenseGeneral(features, dtype=self.dtype, kernel_init=torch_default_init, name=name)

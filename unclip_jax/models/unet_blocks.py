"""The two blocks of the U-Net of ADM (arXiv 2105.05233): residual block and attention block.

Residual block, with g = SiLU of GroupNorm and an optional halving or doubling `resample` between norm and convolution:

    h = conv_1(resample(g_1(x)));   e = time(SiLU(embedding))
    scale_shift:  h = SiLU((1 + a) GN_2(h) + b), (a, b) = e        additive:  h = g_2(h + e)
    answer:       skip(resample(x)) + conv_2(dropout(h)),          conv_2 zero at first

Attention block: pixels attend to context and pixels, keys and values of the context (from its own projection `context`,
not normed) standing before those of the pixels.

Layouts, with N heads of width K: qkv kernel [C, 3, N, K] (second axis: query, key, value), context kernel [D, 2, N, K]
(key, value), out kernel [N, K, C]; skip, a convolution of one pixel, kernel [C_in, C_out].
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float
from unclip_jax.models.layers import GroupNorm, published_init
from unclip_jax.models.transformer import attend

zeros = nn.initializers.zeros


def conv3x3(channels: int, dtype: Any, name: str, kernel_init: Any = published_init) -> nn.Conv:
    """A 3 x 3 convolution that keeps height and width."""
    return nn.Conv(channels, (3, 3), padding=1, dtype=dtype, kernel_init=kernel_init, name=name)


def halved(x: Float["B H W C"]) -> Float["B H/2 W/2 C"]:
    """Means of 2 x 2 pixels. H and W are even."""
    rows, height, width, channels = x.shape
    return x.reshape(rows, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def doubled(x: Float["B H W C"]) -> Float["B 2H 2W C"]:
    """Every pixel repeated 2 x 2 (nearest neighbour)."""
    rows, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (rows, height, 2, width, 2, channels))
    return x.reshape(rows, 2 * height, 2 * width, channels)


RESAMPLE = {None: lambda x: x, "down": halved, "up": doubled}


class ResBlock(nn.Module):
    """The residual block above.

    Args:
      channels: of the result; where they differ from x's, the skip path is a linear map of each pixel.
      resample: None, "down" (halves height and width) or "up" (doubles them).
      scale_shift: whether time scales and shifts the second norm; False: it is added before it.
      dropout: rate, from the rng collection "dropout"; 0 or `deterministic` switches it off.
      groups: of the norms.
      dtype: type of the computation; norms are float32.
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
        resample = RESAMPLE[self.resample]
        h = nn.silu(GroupNorm(self.groups, self.dtype, name="norm_1")(x))
        h = conv3x3(self.channels, self.dtype, "conv_1")(resample(h))
        h = self._add_time(h, embedding)
        h = nn.Dropout(self.dropout, deterministic=self.deterministic)(h)
        h = conv3x3(self.channels, self.dtype, "conv_2", kernel_init=zeros)(h)
        x = resample(x)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=self.dtype, kernel_init=published_init, name="skip")(x)
        return x + h

    def _add_time(self, h: Float["B H W C"], embedding: Float["B D"]) -> Float["B H W C"]:
        features = 2 * self.channels if self.scale_shift else self.channels
        time = nn.Dense(features, dtype=self.dtype, kernel_init=published_init, name="time")(nn.silu(embedding))
        time = time[:, None, None, :]
        norm = GroupNorm(self.groups, self.dtype, name="norm_2")
        if not self.scale_shift:
            return nn.silu(norm(h + time))
        scale, shift = jnp.split(time, 2, axis=-1)
        return nn.silu(norm(h) * (1 + scale) + shift)


class AttentionBlock(nn.Module):
    """The attention block above, with a residual and an output projection that is zero at first.

    Args:
      heads: must divide the channels.
      groups, dtype: as in ResBlock.
    """

    heads: int
    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float["B H W C"], context: Float["B L D"] | None = None, context_mask: Bool["B L"] | None = None
    ) -> Float["B H W C"]:
        """context: tokens beside the pixels; None: self-attention alone.  context_mask: True where seen; None: all."""
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
        return nn.DenseGeneral(features, dtype=self.dtype, kernel_init=published_init, name=name)

"""Layers that every network shares: sinusoids of time, norms in float32, activations by name.

Norms, sinusoids and the time embedding are computed in float32 whatever a network's compute dtype: at bfloat16 the
variance of a group and the phase of a sinusoid at t = 999 lose the digits that they are made of.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.arrays import Float, Int

NORM_EPS = 1e-5

# PyTorch's default for linear and convolution layers, with which the published U-Nets began: uniform, its variance
# 1 / (3 fan_in).
published_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def timestep_sinusoid(t: Int["B"], width: int) -> Float["B D"]:
    """[cos(t f_0..), sin(t f_0..)] with f_i = 10000^(-i / (width/2)): cosines first, as in GLIDE and Karlo.

    Args: t: steps of the training schedule, 0..T-1, integer or float.  width: even.
    Raises ValueError for an odd width.
    """
    if width % 2:
        raise ValueError(f"width {width} of a timestep sinusoid is odd; use an even width")
    half = width // 2
    frequencies = jnp.asarray(np.exp(-np.log(10000.0) * np.arange(half) / half), jnp.float32)
    angles = t.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def position_sinusoids(side: int, width: int) -> Float["L D"]:
    """What positional embeddings of a class token and side x side patches, row by row, begin with: nothing for the
    class token, for a patch sines and cosines of its row and of its column, of waves from 2 pi to 4 pi side patches.

    Their mean square is 1, as that of what a patch says of its pixels. Ten times smaller ones are drowned by it: a ViT
    that begins with them learns what is in a picture long before it learns where.
    """
    frequencies = (2.0 * side) ** (-np.arange(width // 4) / max(width // 4, 1))
    angles = np.arange(side)[:, None] * frequencies
    waves = np.sqrt(2.0) * np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    rows, columns = np.repeat(waves, side, axis=0), np.tile(waves, (side, 1))
    patches = np.concatenate([rows, columns], axis=-1)
    # One token more in front; and where four do not divide the width, the last channels have no position.
    return jnp.asarray(np.pad(patches, ((1, 0), (0, width - patches.shape[1]))), jnp.float32)


class TimeEmbedding(nn.Module):
    """Linear, SiLU, linear, from a sinusoid of any width to `features`; in float32."""

    features: int

    @nn.compact
    def __call__(self, sinusoid: Float["B D"]) -> Float["B F"]:
        h = nn.Dense(self.features, kernel_init=published_init, name="linear_1")(sinusoid)
        return nn.Dense(self.features, kernel_init=published_init, name="linear_2")(nn.silu(h))


class GroupNorm(nn.Module):
    """Normalises each row over space and the channels of a group; parameters `scale` and `bias` a channel.

    Args:
      groups: number of groups; must divide the channels.
      dtype: type of the result. Statistics are float32.
    """

    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float["B ... C"]) -> Float["B ... C"]:
        channels = x.shape[-1]
        if channels % self.groups:
            divisor = int(np.gcd(self.groups, channels))
            raise ValueError(f"groups {self.groups} does not divide {channels} channels; use a divisor, as {divisor}")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = x.astype(jnp.float32)
        centred = x - self._group_mean(x)
        # Two passes: E[x^2] - E[x]^2 cancels where a group's mean is large beside its deviation.
        variance = self._group_mean(jnp.square(centred))
        return (centred * (jax.lax.rsqrt(variance + NORM_EPS) * scale) + bias).astype(self.dtype)

    def _group_mean(self, x: Float["B ... C"]) -> Float["B ... C"]:
        """Mean over space and group, repeated for every channel of it; spatial axes are kept with length 1."""
        by_channel = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)
        by_group = jnp.mean(by_channel.reshape(x.shape[0], self.groups, -1), axis=-1)
        return jnp.repeat(by_group, x.shape[-1] // self.groups, axis=-1).reshape(by_channel.shape)


class LayerNorm(nn.Module):
    """Normalises over the last axis, in float32, eps 1e-5; parameters `scale` and `bias`. `dtype`: of the result."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float["... D"]) -> Float["... D"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        x = x.astype(jnp.float32)
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + NORM_EPS) * scale + bias).astype(self.dtype)


def quick_gelu(x: Float["..."]) -> Float["..."]:
    """x sigmoid(1.702 x), of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Float["..."]) -> Float["..."]:
    """x Phi(x) with the error function, of OpenCLIP, GLIDE and Karlo."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"gelu": exact_gelu, "quick_gelu": quick_gelu}


def activation(name: str):
    """The activation function called `name`. Raises ValueError for an unknown name, with the known ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; known: {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]

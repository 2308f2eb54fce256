"""Layers shared by all networks: sinusoidal embeddings, float32 norms and activations by name.

Norms, sinusoids and the time embedding are computed in float32 for any compute dtype. In bfloat16, the variance of a
group and the phase of a sinusoid at t = 999 would lose their precision.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax.arrays import Float, Int
from unclip_jax.errors import choose

NORM_EPS = 1e-5

# Statistics are float32 and take two passes, like those of GroupNorm.
LayerNorm = functools.partial(nn.LayerNorm, epsilon=NORM_EPS, use_fast_variance=False)

# PyTorch's default for linear and convolutional layers, used by the published U-Nets: uniform with variance
# 1 / (3 fan_in).
torch_default_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def timestep_sinusoid(t: Int["B"], width: int) -> Float["B D"]:
    """Computes sinusoidal timestep embeddings, cosines first, as in GLIDE and Karlo.

    The embedding is [cos(t f_0), ..., sin(t f_0), ...] with f_i = 10000^(-i / (width/2)).

    Args:
      t: Training step of each row, integer or float.
      width: Width of the embedding. Must be even.

    Raises:
      ValueError: If `width` is odd.
    """
    if width % 2:
        raise ValueError(f"width of the timestep embedding must be even, got {width}.")
    half = width // 2
    frequencies = jnp.asarray(np.exp(-np.log(10000.0) * np.arange(half) / half), jnp.float32)
    angles = t.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def position_sinusoids(side: int, width: int) -> Float["L D"]:
    """Computes initial positional embeddings of a ViT: a class token and a grid of patches, row by row.

    The embedding of the class token is 0. That of a patch consists of sines and cosines of its row and its column, with
    wavelengths from 2 pi to 4 pi side patches. Their mean square is 1, like that of the patch embeddings. If they were
    ten times smaller, the patch embeddings would dominate, and a ViT would learn which objects an image contains
    long before it learns where they are.

    Args:
      side: Number of patches along each side.
      width: Width of the embeddings. If it is not a multiple of 4, the last channels are 0.
    """
    frequencies = (2.0 * side) ** (-np.arange(width // 4) / max(width // 4, 1))
    angles = np.arange(side)[:, None] * frequencies
    waves = np.sqrt(2.0) * np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    rows, columns = np.repeat(waves, side, axis=0), np.tile(waves, (side, 1))
    patches = np.concatenate([rows, columns], axis=-1)
    # Pad with the class token in front, and with zeros if the width is not a multiple of 4.
    return jnp.asarray(np.pad(patches, ((1, 0), (0, width - patches.shape[1]))), jnp.float32)


class TimeEmbedding(nn.Module):
    """Time embedding: an MLP (linear, SiLU, linear) applied to a sinusoid, in float32.

    Args:
      features: Width of both layers.
    """

    features: int

    @nn.compact
    def __call__(self, sinusoid: Float["B D"]) -> Float["B F"]:
        """Embeds a sinusoid of any width."""
        h = nn.Dense(self.features, kernel_init=torch_default_init, name="linear_1")(sinusoid)
        return nn.Dense(self.features, kernel_init=torch_default_init, name="linear_2")(nn.silu(h))


class GroupNorm(nn.Module):
    """Group normalization with float32 statistics and a scale and bias per channel.

    Args:
      groups: Number of groups. Must divide the number of channels.
      dtype: Dtype of the output.
    """

    groups: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float["B ... C"]) -> Float["B ... C"]:
        """Normalizes each row over its spatial axes and the channels of a group.

        Raises:
          ValueError: If `groups` does not divide the number of channels.
        """
        channels = x.shape[-1]
        if channels % self.groups:
            divisor = int(np.gcd(self.groups, channels))
            raise ValueError(f"groups must divide the number of channels {channels}, got {self.groups}. Try {divisor}.")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = x.astype(jnp.float32)
        centered = x - self._group_mean(x)
        # Use two passes. E[x^2] - E[x]^2 loses precision if the mean of a group is large relative to its standard
        # deviation.
        variance = self._group_mean(jnp.square(centered))
        return (centered * (jax.lax.rsqrt(variance + NORM_EPS) * scale) + bias).astype(self.dtype)

    def _group_mean(self, x: Float["B ... C"]) -> Float["B ... C"]:
        """Returns the mean over space and group for every channel, with spatial axes of length 1."""
        by_channel = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)
        by_group = jnp.mean(by_channel.reshape(x.shape[0], self.groups, -1), axis=-1)
        return jnp.repeat(by_group, x.shape[-1] // self.groups, axis=-1).reshape(by_channel.shape)


def quick_gelu(x: Float["..."]) -> Float["..."]:
    """Computes x sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Float["..."]) -> Float["..."]:
    """Computes the exact GELU (with the error function), the activation of OpenCLIP, GLIDE and Karlo."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"gelu": exact_gelu, "quick_gelu": quick_gelu}


def activation(name: str):
    """Returns the activation function "gelu" or "quick_gelu", and raises ValueError for another name."""
    return choose(ACTIVATIONS, name, "activation")

"""Classifier of noisy images, for classifier guidance.

It follows ADM (Dhariwal and Nichol 2021, arXiv 2105.05233, Section 4):

    h      = bottleneck(down path(x_t, t))             of the U-Net in `models.unet`, without labels and context
    tokens = [mean of the pixels, pixels row by row] of SiLU(norm_out(h)), + positions
    logits = out(attention of the first token to all)

The attention pool is that of CLIP's ResNets (Radford et al. 2021, arXiv 2103.00020). It is computed in float32, as in
the original implementation.
"""

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.layers import GroupNorm, torch_default_init
from unclip_jax.models.transformer import attend
from unclip_jax.models.unet_encoder import UNetEncoder


class AttentionPool(nn.Module):
    """Attention pooling of pixels into one vector, in float32.

    The layouts of `qkv` and `out` are those of `unet_blocks`.

    Args:
      features: Width of the output.
      heads: Number of attention heads. Must divide the number of channels.
    """

    features: int
    heads: int

    @nn.compact
    def __call__(self, x: Float["B H W C"]) -> Float["B F"]:
        """Pools the pixels of each row."""
        rows, height, width, channels = x.shape
        x = x.astype(jnp.float32).reshape(rows, height * width, channels)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        init = nn.initializers.normal(channels**-0.5)
        x = x + self.param("positional_embedding", init, (height * width + 1, channels))
        shape = (3, self.heads, channels // self.heads)
        q, k, v = jnp.unstack(nn.DenseGeneral(shape, kernel_init=torch_default_init, name="qkv")(x), axis=2)
        h = attend(q[:, :1], k, v, None)[:, 0]
        return nn.DenseGeneral(self.features, axis=(-2, -1), kernel_init=torch_default_init, name="out")(h)


class NoisedClassifier(UNetEncoder):
    """Classifier network.

    All fields that are not listed are described in `UNetEncoder`.

    Args:
      image_size: Side of the images in pixels. Other sizes are not supported, because the pool has one positional
        embedding per pixel.
      num_classes: Number of class labels.
    """

    image_size: int
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: Float["B H W C"], t: Int["B"], *, deterministic: bool = True) -> Float["B F"]:
        """Computes the logits of the classes in float32.

        Args:
          x: Noisy images, `image_size` x `image_size`.
          t: Training step of each row.
          deterministic: Whether to disable dropout.

        Raises:
          ValueError: If the images have another size or the fields are inconsistent.
        """
        self._check_images(x)
        if x.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"images must be {self.image_size} px, got {x.shape[1]} x {x.shape[2]} px.")
        emb = self._time_embedding(t)

        def block(h, name, channels, resample=None):
            return self._res_block(name, channels, resample, deterministic)(h, emb)

        def attention(h, name):
            return self._attention(name, h.shape[-1])(h)

        h = self._bottleneck(self._down_path(x, block, attention)[-1], block, attention)
        h = nn.silu(GroupNorm(self.groups, name="norm_out")(h))
        return AttentionPool(self.num_classes, self._heads(h.shape[-1]), name="pool")(h)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        return {
            "x": jnp.zeros((1, self.image_size, self.image_size, self.in_channels)),
            "t": jnp.zeros(1, jnp.int32),
        }

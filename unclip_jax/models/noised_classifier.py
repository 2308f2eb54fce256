"""ADM's classifier of noised pictures (arXiv 2105.05233, section 4): its gradient guides a diffusion model to a class.

    h      = middle(way down(x_t, t))                  of the U-Net, see `models.unet`; no labels, no context
    tokens = [mean of the pixels, pixels row by row] of SiLU(norm_out(h)), + positions
    logits = out(attention of the first token to all)

The pool is that of CLIP's ResNets (arXiv 2103.00020). It is computed in float32, as the published code does.
"""

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.layers import GroupNorm, published_init
from unclip_jax.models.transformer import attend
from unclip_jax.models.unet_encoder import UNetEncoder


class AttentionPool(nn.Module):
    """Pixels to one vector, in float32. Layouts of qkv and out: as in `unet_blocks`.

    Args:
      features: of the vector.
      heads: must divide the channels.
    """

    features: int
    heads: int

    @nn.compact
    def __call__(self, x: Float["B H W C"]) -> Float["B F"]:
        rows, height, width, channels = x.shape
        x = x.astype(jnp.float32).reshape(rows, height * width, channels)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        init = nn.initializers.normal(channels**-0.5)
        x = x + self.param("positional_embedding", init, (height * width + 1, channels))
        shape = (3, self.heads, channels // self.heads)
        q, k, v = jnp.unstack(nn.DenseGeneral(shape, kernel_init=published_init, name="qkv")(x), axis=2)
        h = attend(q[:, :1], k, v, None)[:, 0]
        return nn.DenseGeneral(self.features, axis=(-2, -1), kernel_init=published_init, name="out")(h)


class NoisedClassifier(UNetEncoder):
    """One evaluation of the classifier.

    Args:
      image_size: side of the pictures; at another one the pool would have no positions.
      num_classes: number of class labels.
      The rest: as in UNetEncoder.
    """

    image_size: int
    num_classes: int = 1000

    @nn.compact
    def __call__(self, x: Float["B H W C"], t: Int["B"], *, deterministic: bool = True) -> Float["B F"]:
        """
        Args:
          x: noised pictures, image_size x image_size.
          t: steps of the training schedule.
          deterministic: switches dropout off.

        Returns the logits of the num_classes classes, float32. Raises ValueError for pictures of another size.
        """
        self._check_pictures(x)
        if x.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(f"pictures are {x.shape[1]} x {x.shape[2]}, and image_size is {self.image_size}")
        emb = self._time_embedding(t)

        def block(h, name, channels, resample=None):
            return self._res_block(name, channels, resample, deterministic)(h, emb)

        def attention(h, name):
            return self._attention(name, h.shape[-1])(h)

        h = self._middle(self._way_down(x, block, attention)[-1], block, attention)
        h = nn.silu(GroupNorm(self.groups, name="norm_out")(h))
        return AttentionPool(self.num_classes, self._heads(h.shape[-1]), name="pool")(h)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        return {
            "x": jnp.zeros((1, self.image_size, self.image_size, self.in_channels)),
            "t": jnp.zeros(1, jnp.int32),
        }

"""Noised CLIP of GLIDE (Nichol et al. 2021, arXiv 2112.10741), for CLIP guidance.

It differs from CLIP in two ways: a learned embedding of the step t replaces the class token, and keys have no bias.
Noisy images are passed as they occur in a sampler and are not clipped to [-1, 1]. GLIDE guides by the gradient of
100 cos(image, text) with respect to x_t.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.clip import ImageTower, TextTower
from unclip_jax.models.text_features import TextFeatures

# Mean and standard deviation of CLIP's training images in 0..255, with the digits of the original implementation.
PIXEL_MEAN = (122.77093945, 116.74601272, 104.09373519)
PIXEL_STD = (68.50053285, 66.63215831, 70.32316309)


class NoisedImageTower(ImageTower):
    """Encoder of noisy images.

    All fields that are not listed are described in `ImageTower`.

    Args:
      noise_steps: Number of training steps, each of which has a learned embedding.
    """

    noise_steps: int = 1000

    @nn.compact
    def __call__(self, x_t: Float["B S S 3"], t: Int["B"]) -> Float["B E"]:
        """Encodes noisy images at step t, on the scale of clean images in [-1, 1]."""
        step = nn.Embed(
            self.noise_steps,
            self.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(self.width**-0.5),
            name="step_embedding",
        )(t)
        pixels = ((x_t + 1.0) * 127.5 - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
        return self._encode(pixels, step[:, None])


class NoisedCLIP(nn.Module):
    """Image encoder for noisy images and text encoder.

    All fields that are not listed are described in `CLIP`.

    Args:
      noise_steps: Number of training steps, each of which has a learned embedding.
    """

    embed_dim: int
    image_size: int
    patch_size: int
    image_width: int
    image_layers: int
    image_heads: int
    vocab_size: int
    context_length: int
    text_width: int
    text_layers: int
    text_heads: int
    noise_steps: int = 1000
    activation: str = "gelu"
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        """Creates the submodules `image` and `text`."""
        common = {"activation": self.activation, "remat": self.remat, "dtype": self.dtype, "key_bias": False}
        self.image = NoisedImageTower(
            self.embed_dim,
            self.image_size,
            self.patch_size,
            self.image_width,
            self.image_layers,
            self.image_heads,
            noise_steps=self.noise_steps,
            **common,
        )
        self.text = TextTower(
            self.embed_dim,
            self.vocab_size,
            self.context_length,
            self.text_width,
            self.text_layers,
            self.text_heads,
            **common,
        )

    def __call__(self, x_t: Float["B S S 3"], t: Int["B"], tokens: Int["B L"]) -> tuple[Float["B E"], TextFeatures]:
        """Returns image embeddings and text features."""
        return self.encode_image(x_t, t), self.encode_text(tokens)

    def encode_image(self, x_t: Float["B S S 3"], t: Int["B"]) -> Float["B E"]:
        """Returns image embeddings, not normalized.

        Args:
          x_t: Noisy images, on the scale of clean images in [-1, 1].
          t: Training step of each row.

        Raises:
          ValueError: If the images are not `image_size` x `image_size`.
        """
        return self.image(x_t, t)

    def encode_text(self, tokens: Int["B L"]) -> TextFeatures:
        """Returns text features, whose `pooled` is not normalized."""
        return self.text(tokens)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        return {
            "x_t": jnp.zeros((1, self.image_size, self.image_size, 3)),
            "t": jnp.zeros(1, jnp.int32),
            "tokens": jnp.zeros((1, self.context_length), jnp.int32),
        }

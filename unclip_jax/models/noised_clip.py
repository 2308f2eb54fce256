"""GLIDE's CLIP for noised pictures (arXiv 2112.10741): its gradient guides a diffusion model to a caption.

It is CLIP but for two things: in the place of the class token stands a learned vector of the step t, and keys have no
bias. Pictures are taken as a sampler holds them, noise and all: nothing is clipped to [-1, 1]. Published guidance takes
the gradient of 100 cos(image, text) with respect to x_t.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.clip import ImageTower, TextTower
from unclip_jax.models.text_features import TextFeatures

# Those of CLIP's training pictures, in 0..255, with the digits of the published code.
PIXEL_MEAN = (122.77093945, 116.74601272, 104.09373519)
PIXEL_STD = (68.50053285, 66.63215831, 70.32316309)


class NoisedImageTower(ImageTower):
    """Noised pictures and their steps to an embedding. Fields: as in ImageTower and NoisedCLIP."""

    noise_steps: int = 1000

    @nn.compact
    def __call__(self, x_t: Float["B S S 3"], t: Int["B"]) -> Float["B E"]:
        step = nn.Embed(
            self.noise_steps,
            self.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(self.width**-0.5),
            name="step_embedding",
        )(t)
        pixels = ((x_t + 1.0) * 127.5 - np.float32(PIXEL_MEAN)) / np.float32(PIXEL_STD)
        return self._encoded(pixels, step[:, None])


class NoisedCLIP(nn.Module):
    """Both towers, parameters `image` and `text`.

    Args:
      noise_steps: of the training schedule: a vector is learned for each.
      The rest: as in CLIP.
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

    def __call__(
        self, x_t: Float["B S S 3"], t: Int["B"], tokens: Int["B L"]
    ) -> tuple[Float["B E"], TextFeatures]:
        """(image embeddings, text features)."""
        return self.encode_image(x_t, t), self.encode_text(tokens)

    def encode_image(self, x_t: Float["B S S 3"], t: Int["B"]) -> Float["B E"]:
        """Embeddings, not normalised, of pictures whose range was [-1, 1] before they were noised up to step t.

        Raises ValueError for pictures that are not image_size x image_size.
        """
        return self.image(x_t, t)

    def encode_text(self, tokens: Int["B L"]) -> TextFeatures:
        """Text features, `pooled` not normalised: read off the token of the highest id, which is the end of text."""
        return self.text(tokens)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        return {
            "x_t": jnp.zeros((1, self.image_size, self.image_size, 3)),
            "t": jnp.zeros(1, jnp.int32),
            "tokens": jnp.zeros((1, self.context_length), jnp.int32),
        }

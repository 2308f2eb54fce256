"""CLIP (Radford et al. 2021, arXiv 2103.00020): a ViT and a causal text transformer with embeddings in common.

Image: patches + class token + positions, LN, transformer, LN of the class token, projection.
Text:  tokens + positions, causal transformer, LN, projection of the token with the highest id, which is the end of
text (EOT); behind it is padding, which no earlier token sees.
Embeddings are as the published code's `encode_*` give them, of any length; a loss or a score normalises them itself.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.layers import LayerNorm, position_sinusoids
from unclip_jax.models.text_features import TextFeatures
from unclip_jax.models.transformer import Transformer

MAX_LOGIT_SCALE = 100.0


class ImageTower(nn.Module):
    """Pixels, normalised by CLIP's mean and deviation, to an embedding. Fields: as in CLIP, without the prefix;
    key_bias: as in Transformer."""

    embed_dim: int
    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "quick_gelu"
    remat: bool = False
    dtype: Any = jnp.float32
    key_bias: bool = True

    @nn.compact
    def __call__(self, pixels: Float["B S S 3"]) -> Float["B E"]:
        class_token = self.param("class_embedding", nn.initializers.normal(self.width**-0.5), (self.width,))
        return self._encoded(pixels, class_token.astype(self.dtype))

    def _encoded(self, pixels: Float["B S S 3"], first: Float["..."]) -> Float["B E"]:
        """The embedding, which is read off the token `first`, broadcast to "B 1 D", after it has seen the patches."""
        side = self._patches(pixels.shape)
        # The patch convolution as a product: the gradient of a strided convolution is slow on many backends.
        patch = self.patch_size
        x = pixels.reshape(-1, side, patch, side, patch, 3).swapaxes(2, 3).reshape(-1, side * side, patch, patch, 3)
        x = nn.DenseGeneral(self.width, axis=(-3, -2, -1), use_bias=False, dtype=self.dtype, name="patch_embedding")(x)
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, self.width)), x], axis=1)
        positions = self.param("positional_embedding", lambda key: position_sinusoids(side, self.width))
        x = x + positions.astype(self.dtype)
        x = LayerNorm(self.dtype, name="norm_pre")(x)
        x = Transformer(
            self.layers,
            self.heads,
            self.mlp_ratio,
            self.activation,
            remat=self.remat,
            dtype=self.dtype,
            key_bias=self.key_bias,
            name="transformer",
        )(x)
        x = LayerNorm(self.dtype, name="norm_post")(x[:, 0])
        init = nn.initializers.normal(self.width**-0.5)
        x = nn.Dense(self.embed_dim, use_bias=False, dtype=self.dtype, kernel_init=init, name="projection")(x)
        return x.astype(jnp.float32)

    def _patches(self, shape: tuple[int, ...]) -> int:
        """Patches along a side."""
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide image_size {self.image_size}")
        if shape[1:] != (self.image_size, self.image_size, 3):
            wanted = f"[B, {self.image_size}, {self.image_size}, 3]"
            raise ValueError(f"pixels {list(shape)} do not fit a CLIP whose image_size wants {wanted}")
        return self.image_size // self.patch_size


class TextTower(nn.Module):
    """Tokens to TextFeatures. Fields: as in CLIP, without the prefix; key_bias: as in Transformer."""

    embed_dim: int
    vocab_size: int
    context_length: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "quick_gelu"
    remat: bool = False
    dtype: Any = jnp.float32
    key_bias: bool = True

    @nn.compact
    def __call__(self, tokens: Int["B L"]) -> TextFeatures:
        length = tokens.shape[1]
        if length > self.context_length:
            raise ValueError(f"tokens of length {length} exceed context_length {self.context_length}: truncate them")
        x = nn.Embed(
            self.vocab_size,
            self.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(0.02),
            name="token_embedding",
        )(tokens)
        positions = self.param("positional_embedding", nn.initializers.normal(0.01), (self.context_length, self.width))
        x = Transformer(
            self.layers,
            self.heads,
            self.mlp_ratio,
            self.activation,
            causal=True,
            remat=self.remat,
            dtype=self.dtype,
            key_bias=self.key_bias,
            name="transformer",
        )(x + positions[:length].astype(self.dtype))
        sequence = LayerNorm(self.dtype, name="norm_final")(x)
        end = jnp.argmax(tokens, axis=1)  # the first of equal maxima, so padding with EOT is padding too
        pooled = nn.Dense(
            self.embed_dim,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=nn.initializers.normal(self.width**-0.5),
            name="projection",
        )(jnp.take_along_axis(sequence, end[:, None, None], axis=1)[:, 0])
        mask = jnp.arange(length) <= end[:, None]
        return TextFeatures(pooled.astype(jnp.float32), sequence.astype(jnp.float32), mask)


class CLIP(nn.Module):
    """Both towers (parameters `image` and `text`) and the learned scale of their product.

    Args:
      embed_dim: width of the common embeddings.
      image_size, patch_size: sides in pixels; patch_size divides image_size.
      image_width, image_layers, image_heads, image_mlp_ratio: the ViT's transformer. image_width None: there is no
        image tower, and no scale, as where a published model keeps of its CLIP the text tower alone.
      vocab_size, context_length: of the tokenizer.
      text_width, text_layers, text_heads, text_mlp_ratio: the text transformer.
      activation: "quick_gelu" (OpenAI's weights) or "gelu" (OpenCLIP's).
      remat, dtype: as in Transformer. Results are float32.
    """

    embed_dim: int
    image_size: int | None
    patch_size: int | None
    image_width: int | None
    image_layers: int | None
    image_heads: int | None
    vocab_size: int
    context_length: int
    text_width: int
    text_layers: int
    text_heads: int
    image_mlp_ratio: float = 4.0
    text_mlp_ratio: float = 4.0
    activation: str = "quick_gelu"
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self):
        common = {"activation": self.activation, "remat": self.remat, "dtype": self.dtype}
        self.text = TextTower(
            self.embed_dim,
            self.vocab_size,
            self.context_length,
            self.text_width,
            self.text_layers,
            self.text_heads,
            self.text_mlp_ratio,
            **common,
        )
        if self.image_width is None:
            return
        self.image = ImageTower(
            self.embed_dim,
            self.image_size,
            self.patch_size,
            self.image_width,
            self.image_layers,
            self.image_heads,
            self.image_mlp_ratio,
            **common,
        )
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(np.log(1 / 0.07)), ())

    def __call__(
        self, pixels: Float["B S S 3"] | None, tokens: Int["B L"]
    ) -> tuple[Float["B E"] | None, TextFeatures, Float[""] | None]:
        """Returns image embeddings, text features and `cosine_scale()`.

        Without an image tower `pixels` must be None, and the image embeddings and the scale are None.
        """
        if pixels is not None:
            return self.encode_image(pixels), self.text(tokens), self.cosine_scale()
        if self.image_width is not None:
            raise ValueError("pixels must be a batch of images, got None.")
        return None, self.text(tokens), None

    def encode_image(self, pixels: Float["B S S 3"]) -> Float["B E"]:
        """Image embeddings, not normalised. Raises ValueError where there is no image tower."""
        if self.image_width is None:
            raise ValueError("this CLIP has a text tower alone and embeds no pictures: give one that has both")
        return self.image(pixels)

    def encode_text(self, tokens: Int["B L"]) -> TextFeatures:
        """Text features, `pooled` not normalised."""
        return self.text(tokens)

    def cosine_scale(self) -> Float[""]:
        """The factor of cosines: exp of the parameter, at most 100."""
        return jnp.minimum(jnp.exp(self.logit_scale.astype(jnp.float32)), MAX_LOGIT_SCALE)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        shape = (1, self.image_size, self.image_size, 3)
        return {
            "pixels": None if self.image_width is None else jnp.zeros(shape),
            "tokens": jnp.zeros((1, self.context_length), jnp.int32),
        }

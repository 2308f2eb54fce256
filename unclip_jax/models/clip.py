"""CLIP (Radford et al. 2021, arXiv 2103.00020): a ViT and a text transformer with joint embeddings.

Image: patches + class token + positions, LN, transformer, LN of the class token, projection.
Text:  tokens + positions, causal transformer, LN, projection of the end-of-text token.

The end-of-text token has the highest id. Tokens after it are padding, which earlier tokens do not attend to. Embeddings
are not normalized, matching the original `encode_*` functions. Losses and scores normalize them.
"""

from typing import Any

import einops
import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.layers import LayerNorm, position_sinusoids
from unclip_jax.models.text_features import TextFeatures
from unclip_jax.models.transformer import Transformer

MAX_LOGIT_SCALE = 100.0


class ImageTower(nn.Module):
    """Image encoder with float32 embeddings.

    All fields that are not listed are described in `Transformer`.

    Args:
      embed_dim: Width of the embedding.
      image_size: Side of the images in pixels.
      patch_size: Side of a patch in pixels. Must divide `image_size`.
      width: Width of the transformer.
    """

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
        """Encodes images normalized by CLIP's statistics, and raises ValueError for another size."""
        class_token = self.param("class_embedding", nn.initializers.normal(self.width**-0.5), (self.width,))
        return self._encode(pixels, class_token.astype(self.dtype))

    def _encode(self, pixels: Float["B S S 3"], first: Float["..."]) -> Float["B E"]:
        """Returns the embedding at the token `first`, which broadcasts to "B 1 D" and precedes the patches."""
        side = self._patches_per_side(pixels.shape)
        # The patch convolution is a matrix product, because strided convolutions have slow gradients on many backends.
        x = einops.rearrange(pixels, "b (r p) (c q) d -> b (r c) p q d", p=self.patch_size, q=self.patch_size)
        x = nn.DenseGeneral(self.width, axis=(-3, -2, -1), use_bias=False, dtype=self.dtype, name="patch_embedding")(x)
        x = jnp.concatenate([jnp.broadcast_to(first, (x.shape[0], 1, self.width)), x], axis=1)
        positions = self.param("positional_embedding", lambda key: position_sinusoids(side, self.width))
        x = x + positions.astype(self.dtype)
        x = LayerNorm(dtype=self.dtype, name="norm_pre")(x)
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
        x = LayerNorm(dtype=self.dtype, name="norm_post")(x[:, 0])
        init = nn.initializers.normal(self.width**-0.5)
        x = nn.Dense(self.embed_dim, use_bias=False, dtype=self.dtype, kernel_init=init, name="projection")(x)
        return x.astype(jnp.float32)

    def _patches_per_side(self, shape: tuple[int, ...]) -> int:
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size must divide image_size={self.image_size}, got {self.patch_size}.")
        if shape[1:] != (self.image_size, self.image_size, 3):
            expected = f"[B, {self.image_size}, {self.image_size}, 3]"
            raise ValueError(f"pixels must have shape {expected}, got {list(shape)}.")
        return self.image_size // self.patch_size


class TextTower(nn.Module):
    """Causal text encoder with float32 features.

    All fields that are not listed are described in `Transformer`.

    Args:
      embed_dim: Width of the pooled embedding.
      vocab_size: Size of the tokenizer's vocabulary.
      context_length: Maximum number of tokens.
      width: Width of the transformer.
    """

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
        """Encodes captions, and raises ValueError if they are longer than `context_length`."""
        length = tokens.shape[1]
        if length > self.context_length:
            raise ValueError(f"tokens must have length at most {self.context_length} (context_length), got {length}.")
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
        sequence = LayerNorm(dtype=self.dtype, name="norm_final")(x)
        end = jnp.argmax(tokens, axis=1)  # the first maximum: the end-of-text token may also be used as padding
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
    """Image encoder, text encoder and the learned scale of their cosine similarity.

    Args:
      embed_dim: Width of the joint embeddings.
      image_size: Side of the images in pixels.
      patch_size: Side of a patch in pixels. Must divide `image_size`.
      image_width: Width of the image encoder's transformer. If None, there is no image encoder and no scale, as in
        published models that only include the text encoder of their CLIP. The other image fields are then ignored.
      image_layers: Number of its blocks.
      image_heads: Number of its attention heads.
      vocab_size: Size of the tokenizer's vocabulary.
      context_length: Maximum number of tokens.
      text_width: Width of the text encoder's transformer.
      text_layers: Number of its blocks.
      text_heads: Number of its attention heads.
      image_mlp_ratio: Width of the image encoder's MLP relative to `image_width`.
      text_mlp_ratio: Width of the text encoder's MLP relative to `text_width`.
      activation: "quick_gelu" (OpenAI's weights) or "gelu" (OpenCLIP's weights).
      remat, dtype: As in `Transformer`. Outputs are float32.
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
        """Creates the submodules `image` and `text`."""
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

        Without an image encoder, `pixels` must be None, and the image embeddings and the scale are None.
        """
        if pixels is not None:
            return self.encode_image(pixels), self.text(tokens), self.cosine_scale()
        if self.image_width is not None:
            raise ValueError("pixels must be a batch of images, got None.")
        return None, self.text(tokens), None

    def encode_image(self, pixels: Float["B S S 3"]) -> Float["B E"]:
        """Returns image embeddings, not normalized, and raises ValueError without an image encoder."""
        if self.image_width is None:
            raise ValueError("This CLIP has no image encoder. Use a CLIP with both encoders.")
        return self.image(pixels)

    def encode_text(self, tokens: Int["B L"]) -> TextFeatures:
        """Returns text features, whose `pooled` is not normalized."""
        return self.text(tokens)

    def cosine_scale(self) -> Float[""]:
        """Returns the factor of the cosine similarities: exp(logit_scale), at most 100."""
        return jnp.minimum(jnp.exp(self.logit_scale.astype(jnp.float32)), MAX_LOGIT_SCALE)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        shape = (1, self.image_size, self.image_size, 3)
        return {
            "pixels": None if self.image_width is None else jnp.zeros(shape),
            "tokens": jnp.zeros((1, self.context_length), jnp.int32),
        }

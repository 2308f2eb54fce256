"""GLIDE (Nichol et al. 2021, arXiv 2112.10741), a U-Net with a jointly trained text transformer.

The original decoder of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.1) is the same network with a CLIP image
embedding in addition to the caption. With the output s of the text transformer, its last position s_L and an image
embedding z, the conditions are

    embedding = time + text_to_time(s_L) [+ image_to_time(z)]
    context   = [[image_to_tokens(z) (image_tokens of them),] s]

Padded positions of a caption have a learned embedding each and are not masked in attention. Additional channels (a
low-resolution image; for inpainting the known region and its mask) are concatenated after x_t. If z is dropped in a
row, the learned null embedding `null_image` replaces it in both places.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.image_conditioning import embedding_or_null, image_tokens, time_projection
from unclip_jax.models.layers import LayerNorm
from unclip_jax.models.transformer import Transformer
from unclip_jax.models.unet import unet_of


class CaptionTransformer(nn.Module):
    """Bidirectional text transformer.

    Args:
      vocab_size: Size of the tokenizer's vocabulary.
      context_length: Number of tokens, including padding.
      width: Width of the transformer.
      layers: Number of transformer blocks.
      heads: Number of attention heads. Must divide `width`.
      remat: Whether to rematerialize each block in the backward pass.
      dtype: Compute dtype.
    """

    vocab_size: int
    context_length: int
    width: int
    layers: int
    heads: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int["B L"], mask: Bool["B L"]) -> Float["B L D"]:
        """Encodes captions.

        Args:
          tokens: Tokens, padded to `context_length`.
          mask: False for padding.

        Raises:
          ValueError: If the captions have another length.
        """
        if tokens.shape[1] != self.context_length:
            raise ValueError(f"tokens must be padded to context_length={self.context_length}, got {tokens.shape[1]}.")
        init = nn.initializers.normal(0.01)
        embed = nn.Embed(
            self.vocab_size,
            self.width,
            dtype=self.dtype,
            embedding_init=nn.initializers.normal(0.02),
            name="token_embedding",
        )
        positions = self.param("positional_embedding", init, (self.context_length, self.width))
        padding = self.param("padding_embedding", init, (self.context_length, self.width))
        x = embed(tokens) + positions.astype(self.dtype)
        x = jnp.where(mask[..., None], x, padding.astype(self.dtype))
        x = Transformer(self.layers, self.heads, remat=self.remat, dtype=self.dtype, name="transformer")(x)
        return LayerNorm(dtype=self.dtype, name="norm_final")(x)


class Glide(nn.Module):
    """Network of GLIDE and of unCLIP's original decoder.

    All fields that are not listed are described in `UNetEncoder`.

    Args:
      vocab_size: Size of the tokenizer's vocabulary.
      context_length: Number of caption tokens, including padding.
      text_width: Width of the text transformer.
      text_layers: Number of its blocks.
      text_heads: Number of its attention heads.
      embed_dim: Width of the image embedding. If None, there is no image embedding, as in GLIDE.
      image_tokens: Number of context tokens derived from the image embedding.
      in_channels: Number of channels of `x_t` and `extra_channels` together.
      out_channels: Number of output channels. 6 is the prediction and the learned variance of every pixel and channel.
    """

    image_size: int | tuple[int, int]
    channels: int
    channel_mult: tuple[float, ...]
    res_blocks: int
    attention_resolutions: tuple[int, ...]
    head_channels: int
    vocab_size: int
    context_length: int
    text_width: int
    text_layers: int
    text_heads: int
    embed_dim: int | None = None
    image_tokens: int = 4
    num_heads: int | None = None
    dropout: float = 0.0
    groups: int = 32
    scale_shift: bool = True
    in_channels: int = 3
    out_channels: int = 6
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x_t: Float["B H W 3"],
        t: Int["B"],
        tokens: Int["B L"],
        mask: Bool["B L"],
        *,
        image_embedding: Float["B E"] | None = None,
        drop_image: Bool["B"] | None = None,
        extra_channels: Float["B H W C"] | None = None,
        deterministic: bool = True,
    ) -> Float["B H W 6"]:
        """Predicts the noise (or another parameterization) and the variance.

        Args:
          x_t: Noisy images.
          t: Training step of each row.
          tokens: Tokens of the captions, padded to `context_length`.
          mask: False for padding.
          image_embedding: CLIP image embeddings, not normalized. Required if and only if `embed_dim` is set.
          drop_image: True for the rows whose image embedding is dropped. If None, none is dropped.
          extra_channels: Low-resolution image, and for inpainting the known region and its mask, with the height and
            width of `x_t`. If None, `x_t` has all `in_channels`.
          deterministic: Whether to disable dropout.

        Raises:
          ValueError: If the inputs do not fit the network.
        """
        if (image_embedding is None) != (self.embed_dim is None):
            raise ValueError("image_embedding and embed_dim must be set together. Set both or neither.")
        sequence = CaptionTransformer(
            self.vocab_size,
            self.context_length,
            self.text_width,
            self.text_layers,
            self.text_heads,
            remat=self.remat,
            dtype=self.dtype,
            name="text",
        )(tokens, mask)
        embedding = time_projection(self, "text_to_time")(sequence[:, -1].astype(jnp.float32))
        if image_embedding is not None:
            z = embedding_or_null(self, image_embedding, drop_image)
            embedding += time_projection(self, "image_to_time")(z)
            sequence = jnp.concatenate([image_tokens(self, z, self.text_width), sequence], axis=1)
        return unet_of(self, context_width=self.text_width)(
            x_t,
            t,
            extra_channels=extra_channels,
            embedding=embedding,
            context=sequence,
            deterministic=deterministic,
        )

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        x = jnp.zeros((1, *height_width(self.image_size), self.in_channels))
        inputs = {
            "x_t": x[..., :3],
            "t": jnp.zeros(1, jnp.int32),
            "tokens": jnp.zeros((1, self.context_length), jnp.int32),
            "mask": jnp.ones((1, self.context_length), bool),
        }
        if self.embed_dim is not None:
            inputs["image_embedding"] = jnp.zeros((1, self.embed_dim))
        if self.in_channels > 3:
            inputs["extra_channels"] = x[..., 3:]
        return inputs

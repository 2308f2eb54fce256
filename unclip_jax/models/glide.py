"""GLIDE (arXiv 2112.10741): a U-Net with a text transformer of its own, trained with it; and unCLIP's own decoder,
which is GLIDE with a CLIP image embedding beside the caption (unCLIP, arXiv 2204.06125, section 2.1).

With the sequence s that the text transformer makes of a caption, s_L its last position, and an image embedding z,

    embedding = time + text_to_time(s_L) [+ image_to_time(z)]
    context   = [[image_to_tokens(z) (image_tokens of them),] s]

Padded positions of a caption get a learned vector each, and attention sees them as any other: no mask. Further channels
(a low-resolution image; for inpainting the known region and its mask) are concatenated after x_t. A row whose z is
dropped gets the learned vector `null_image` in its place, everywhere.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.image_conditioning import image_tokens, or_null, to_time
from unclip_jax.models.layers import LayerNorm
from unclip_jax.models.transformer import Transformer
from unclip_jax.models.unet import unet_of


class CaptionTransformer(nn.Module):
    """Tokens to a sequence, every token seeing every other. Fields: as in Transformer."""

    vocab_size: int
    context_length: int
    width: int
    layers: int
    heads: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int["B L"], mask: Bool["B L"]) -> Float["B L D"]:
        """mask: True for the caption's tokens, False for padding. L is context_length."""
        if tokens.shape[1] != self.context_length:
            raise ValueError(f"tokens have length {tokens.shape[1]}; pad them to context_length {self.context_length}")
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
        return LayerNorm(self.dtype, name="norm_final")(x)


class Glide(nn.Module):
    """One evaluation of GLIDE, or of unCLIP's own decoder.

    Args:
      vocab_size, context_length: of the captions' tokens.
      text_width, text_layers, text_heads: of the text transformer.
      embed_dim: width of the image embedding; None: there is none, as in GLIDE.
      image_tokens: how many tokens are made of it.
      in_channels: Number of channels of x_t and extra_channels together.
      out_channels: 6: the noise and, for each pixel and channel, the learned variance.
      The rest: as in UNet.
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
        """
        Args:
          x_t: noised pictures.
          t: steps of the training schedule.
          tokens, mask: captions, padded, and which of the tokens are no padding.
          image_embedding: raw, as CLIP gives it; where embed_dim is set.
          drop_image: rows that do without theirs; None: no row.
          extra_channels: Low-resolution image, and for inpainting the known region and its mask, of x_t's height and
            width. If None, x_t has all in_channels.
          deterministic: switches dropout off.
        """
        if (image_embedding is None) != (self.embed_dim is None):
            raise ValueError("image_embedding and embed_dim go together: set both or neither")
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
        embedding = to_time(self, "text_to_time")(sequence[:, -1].astype(jnp.float32))
        if image_embedding is not None:
            z = or_null(self, image_embedding, drop_image)
            embedding += to_time(self, "image_to_time")(z)
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

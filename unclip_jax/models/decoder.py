"""The decoder: a U-Net conditioned on a CLIP image embedding and a caption (unCLIP, arXiv 2204.06125, section 2.1).

As in Karlo, with linear maps of the image embedding z, the pooled text p and the text sequence s:

    embedding = time + image_to_time(z) + text_to_time(p)
    context   = [image_to_tokens(z) (image_tokens of them), LN(sequence_to_tokens(s))]

A row whose z is dropped gets the learned vector `null_image` in its place, everywhere. A dropped caption is the
features of the empty caption, which the caller passes.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.image_conditioning import image_tokens, or_null, to_time
from unclip_jax.models.layers import LayerNorm, published_init
from unclip_jax.models.text_features import TextFeatures, example_text_features
from unclip_jax.models.unet import unet_of


class Decoder(nn.Module):
    """One evaluation of the decoder.

    Args:
      embed_dim: width of CLIP's embeddings, image and pooled text.
      text_width: width of the text tower's sequence.
      context_width: width of the tokens that attention sees.
      image_tokens: how many of them are made of the image embedding.
      out_channels: 6: the noise and, for each pixel and channel, the learned variance.
      The rest: as in UNet.
    """

    image_size: int | tuple[int, int]
    channels: int
    channel_mult: tuple[float, ...]
    res_blocks: int
    attention_resolutions: tuple[int, ...]
    head_channels: int
    embed_dim: int
    text_width: int
    context_width: int
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
        image_embedding: Float["B E"],
        text: TextFeatures,
        *,
        drop_image: Bool["B"] | None = None,
        deterministic: bool = True,
    ) -> Float["B H W 6"]:
        """
        Args:
          x_t: noised pictures.
          t: steps of the training schedule.
          image_embedding: raw, as CLIP gives it.
          text: features of the captions.
          drop_image: rows that do without their image embedding; None: no row.
          deterministic: switches dropout off.
        """
        self._check(image_embedding, text)
        z = or_null(self, image_embedding, drop_image)
        embedding = to_time(self, "image_to_time")(z) + to_time(self, "text_to_time")(text.pooled)
        context, mask = self._context(z, text)
        return unet_of(self)(
            x_t, t, embedding=embedding, context=context, context_mask=mask, deterministic=deterministic
        )

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks.

        The caption has 8 tokens. The decoder accepts any number.
        """
        return {
            "x_t": jnp.zeros((1, *height_width(self.image_size), self.in_channels)),
            "t": jnp.zeros(1, jnp.int32),
            "image_embedding": jnp.zeros((1, self.embed_dim)),
            "text": example_text_features(self.embed_dim, self.text_width, length=8),
        }

    def _context(self, z: Float["B E"], text: TextFeatures) -> tuple[Float["B L D"], Bool["B L"]]:
        """The tokens that attention sees, image tokens first, and which of them are not padding."""
        image = image_tokens(self, z, self.context_width)
        sequence = nn.Dense(
            self.context_width, dtype=self.dtype, kernel_init=published_init, name="sequence_to_tokens"
        )(text.sequence)
        sequence = LayerNorm(self.dtype, name="sequence_norm")(sequence)
        context = jnp.concatenate([image, sequence], axis=1)
        images = jnp.ones((text.mask.shape[0], self.image_tokens), bool)
        return context, jnp.concatenate([images, text.mask], axis=1)

    def _check(self, image_embedding: Float["B E"], text: TextFeatures) -> None:
        wanted = (
            ("image_embedding", image_embedding, "embed_dim"),
            ("text.pooled", text.pooled, "embed_dim"),
            ("text.sequence", text.sequence, "text_width"),
        )
        for name, value, field in wanted:
            if value.shape[-1] != getattr(self, field):
                raise ValueError(f"{name} is {value.shape[-1]} wide, and {field} is {getattr(self, field)}")

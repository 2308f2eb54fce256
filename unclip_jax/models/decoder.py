"""Decoder: a U-Net conditioned on a CLIP image embedding and a caption.

The architecture is that of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.1) as implemented in Karlo. The
image embedding z, the pooled text p and the text sequence s enter through linear maps:

    embedding = time + image_to_time(z) + text_to_time(p)
    context   = [image_to_tokens(z) (image_tokens of them), LN(sequence_to_tokens(s))]

If z is dropped in a row, the learned null embedding `null_image` replaces it in both places. To drop a caption, pass
the features of the empty caption.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, PyTree
from unclip_jax.images import height_width
from unclip_jax.models.image_conditioning import embedding_or_null, image_tokens, time_projection
from unclip_jax.models.layers import LayerNorm, torch_default_init
from unclip_jax.models.text_features import TextFeatures, example_text_features
from unclip_jax.models.unet import unet_of


class Decoder(nn.Module):
    """Decoder network.

    All fields that are not listed are described in `UNetEncoder`.

    Args:
      embed_dim: Width of CLIP's embeddings, image and pooled text.
      text_width: Width of the text sequence.
      context_width: Width of the context tokens.
      image_tokens: Number of context tokens derived from the image embedding.
      out_channels: Number of output channels. 6 is the prediction and the learned variance of every pixel and channel.
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
        """Predicts the noise (or another parameterization) and the variance.

        Args:
          x_t: Noisy images.
          t: Training step of each row.
          image_embedding: CLIP image embeddings, not normalized.
          text: Features of the captions.
          drop_image: True for the rows whose image embedding is dropped. If None, none is dropped.
          deterministic: Whether to disable dropout.

        Raises:
          ValueError: If a condition has the wrong width or the images do not fit the network.
        """
        self._check(image_embedding, text)
        z = embedding_or_null(self, image_embedding, drop_image)
        embedding = time_projection(self, "image_to_time")(z) + time_projection(self, "text_to_time")(text.pooled)
        context, mask = self._context(z, text)
        return unet_of(self)(
            x_t, t, embedding=embedding, context=context, context_mask=mask, deterministic=deterministic
        )

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks.

        The caption has 8 tokens. Any number of tokens is accepted.
        """
        return {
            "x_t": jnp.zeros((1, *height_width(self.image_size), self.in_channels)),
            "t": jnp.zeros(1, jnp.int32),
            "image_embedding": jnp.zeros((1, self.embed_dim)),
            "text": example_text_features(self.embed_dim, self.text_width, length=8),
        }

    def _context(self, z: Float["B E"], text: TextFeatures) -> tuple[Float["B L D"], Bool["B L"]]:
        """Returns the context tokens, image tokens first, and a mask that is False for padding."""
        image = image_tokens(self, z, self.context_width)
        sequence = nn.Dense(
            self.context_width, dtype=self.dtype, kernel_init=torch_default_init, name="sequence_to_tokens"
        )(text.sequence)
        sequence = LayerNorm(dtype=self.dtype, name="sequence_norm")(sequence)
        context = jnp.concatenate([image, sequence], axis=1)
        images = jnp.ones((text.mask.shape[0], self.image_tokens), bool)
        return context, jnp.concatenate([images, text.mask], axis=1)

    def _check(self, image_embedding: Float["B E"], text: TextFeatures) -> None:
        conditions = (
            ("image_embedding", image_embedding, "embed_dim"),
            ("text.pooled", text.pooled, "embed_dim"),
            ("text.sequence", text.sequence, "text_width"),
        )
        for name, value, field in conditions:
            expected = getattr(self, field)
            if value.shape[-1] != expected:
                raise ValueError(f"{name} must have width {field}={expected}, got {value.shape[-1]}.")

"""Diffusion prior of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, Section 2.2), as in Karlo.

It is a causal transformer over the tokens

    [text sequence (L), pooled text, time, noisy image embedding z_t, learned query] + positions (L + 4)

and its output is read from the last token. Padding of the caption is masked. Embeddings are standardized per dimension.
If the stage's `predicts` is "x0", the output is the clean embedding.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree
from unclip_jax.models.layers import LayerNorm, TimeEmbedding, timestep_sinusoid, torch_default_init
from unclip_jax.models.text_features import TextFeatures, example_text_features
from unclip_jax.models.transformer import Transformer

EXTRA_TOKENS = 4  # pooled text, time, z_t, query


class DiffusionPrior(nn.Module):
    """Diffusion prior network.

    Args:
      embed_dim: Width of CLIP's embeddings, image and pooled text.
      text_width: Width of the text sequence.
      context_length: Number of caption tokens L, including padding.
      width: Width of the transformer.
      layers: Number of transformer blocks.
      heads: Number of attention heads. Must divide `width`.
      mlp_ratio: Width of the MLP relative to `width`.
      activation: "gelu" or "quick_gelu".
      remat: Whether to rematerialize each block in the backward pass.
      dtype: Compute dtype. The output is float32.
    """

    embed_dim: int
    text_width: int
    context_length: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: str = "gelu"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z_t: Float["B E"], t: Int["B"], text: TextFeatures) -> Float["B E"]:
        """Predicts the clean embedding (or another parameterization).

        Args:
          z_t: Noisy, standardized image embeddings.
          t: Training step of each row.
          text: Features of the captions.

        Raises:
          ValueError: If an input has the wrong shape, or if `width` is odd or not divisible by `heads`.
        """
        self._check(z_t, text)

        def project(name):
            return nn.Dense(self.width, dtype=self.dtype, kernel_init=torch_default_init, name=name)

        rows = z_t.shape[0]
        length = self.context_length + EXTRA_TOKENS
        time = TimeEmbedding(self.width, name="time_embedding")(timestep_sinusoid(t, self.width))
        query = self.param("query", nn.initializers.normal(0.02), (self.width,)).astype(self.dtype)
        singles = [
            project("text_projection")(text.pooled),
            time.astype(self.dtype),
            project("image_projection")(z_t),
            jnp.broadcast_to(query, (rows, self.width)),
        ]
        tokens = jnp.concatenate([project("sequence_projection")(text.sequence), jnp.stack(singles, axis=1)], axis=1)
        positions = self.param("positional_embedding", nn.initializers.normal(0.02), (length, self.width))
        mask = jnp.concatenate([text.mask, jnp.ones((rows, EXTRA_TOKENS), bool)], axis=1)
        h = Transformer(
            self.layers,
            self.heads,
            self.mlp_ratio,
            self.activation,
            causal=True,
            remat=self.remat,
            dtype=self.dtype,
            name="transformer",
        )(tokens + positions.astype(self.dtype), mask[:, None, None, :])
        h = LayerNorm(name="norm_out")(h[:, -1])
        return nn.Dense(self.embed_dim, kernel_init=torch_default_init, name="projection_out")(h)

    def example_inputs(self) -> dict[str, PyTree]:
        """Returns one row of inputs, for initialization and shape checks."""
        return {
            "z_t": jnp.zeros((1, self.embed_dim)),
            "t": jnp.zeros(1, jnp.int32),
            "text": example_text_features(self.embed_dim, self.text_width, self.context_length),
        }

    def _check(self, z_t: Float["B E"], text: TextFeatures) -> None:
        shapes = {
            "z_t": (z_t.shape[1:], (self.embed_dim,)),
            "text.pooled": (text.pooled.shape[1:], (self.embed_dim,)),
            "text.sequence": (text.sequence.shape[1:], (self.context_length, self.text_width)),
            "text.mask": (text.mask.shape[1:], (self.context_length,)),
        }
        for name, (actual, expected) in shapes.items():
            if actual != expected:
                raise ValueError(f"{name} must have shape {['B', *expected]}, got {['B', *actual]}.")

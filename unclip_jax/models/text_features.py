"""Output of text encoders, which conditions other networks."""

import jax.numpy as jnp
from flax import struct

from unclip_jax.arrays import Bool, Float


@struct.dataclass
class TextFeatures:
    """Features of a batch of captions.

    Attributes:
      pooled: Projected state of the end-of-text token: CLIP's text embedding, not normalized.
      sequence: States of all tokens after the final norm. States after the end-of-text token are meaningless.
      mask: True up to and including the end-of-text token.
    """

    pooled: Float["B E"]
    sequence: Float["B L D"]
    mask: Bool["B L"]


def example_text_features(embed_dim: int, width: int, length: int) -> TextFeatures:
    """Returns features of one caption without padding, all zeros."""
    return TextFeatures(
        pooled=jnp.zeros((1, embed_dim)), sequence=jnp.zeros((1, length, width)), mask=jnp.ones((1, length), bool)
    )

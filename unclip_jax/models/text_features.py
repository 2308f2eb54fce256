"""The output of a text encoder, shared by all text encoders and by the networks that they condition."""

from flax import struct

from unclip_jax.arrays import Bool, Float


@struct.dataclass
class TextFeatures:
    """Features of a batch of captions.

    Attributes:
      pooled: Projected state of the end-of-text token, not normalized.
      sequence: States of all tokens after the final norm. Positions after the end-of-text token are meaningless.
      mask: True up to and including the end-of-text token.
    """

    pooled: Float["B E"]
    sequence: Float["B L D"]
    mask: Bool["B L"]

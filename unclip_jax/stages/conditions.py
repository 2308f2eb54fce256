"""What networks are conditioned on, keyed by the stage that produced it."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax import struct

from unclip_jax.arrays import Bool, Float, Int
from unclip_jax.models.text_features import TextFeatures


class Tokens(NamedTuple):
    """Captions as token ids, with a mask that is True for tokens and False for padding."""

    ids: Int["N L"]
    mask: Bool["N L"]


@struct.dataclass
class KnownRegion:
    """The part of an image that an edit keeps.

    Attributes:
      image: Images in [-1, 1].
      mask: 1 where the image is known, 0 where it is generated.
    """

    image: Float["N H W 3"]
    mask: Float["N H W 1"]


@struct.dataclass
class Conditions:
    """Conditions of N images: host arrays with one row per image, keyed by the name of the stage that produced them.

    One U-Net can read CLIP and T5, and two decoders can share one CLIP: a stage's spec maps its roles to these names.

    Attributes:
      tokens: Captions' tokens, under the name of the stage that reads them.
      text: Text features, under the name of their encoder.
      image_embedding: Raw image embeddings, under the name of the encoder in whose space they are.
      labels: Class labels.
      low_res: Images in [-1, 1] to upsample.
      known: The part of an edited image that is known.
    """

    tokens: Mapping[str, Tokens] = struct.field(default_factory=dict)
    text: Mapping[str, TextFeatures] = struct.field(default_factory=dict)
    image_embedding: Mapping[str, Float["N E"]] = struct.field(default_factory=dict)
    labels: Int["N"] | None = None
    low_res: Float["N h w 3"] | None = None
    known: KnownRegion | None = None

    def repeat(self, count: int) -> "Conditions":
        """Returns every row `count` times, those of the first row first."""
        return jax.tree.map(lambda rows: np.repeat(rows, count, axis=0), self)

    def with_rows(self, count: int) -> "Conditions":
        """Returns `count` rows: those of arrays that have fewer are repeated, and `count` is a multiple of them."""
        return jax.tree.map(lambda rows: np.repeat(rows, count // len(rows), axis=0), self)

    def take(self, indices: Int["M"]) -> "Conditions":
        """Returns the rows with these indices."""
        return jax.tree.map(lambda rows: rows[indices], self)

    def rows(self, index: int) -> "Conditions":
        """Returns row `index` alone."""
        return jax.tree.map(lambda rows: rows[index : index + 1], self)

    def merge(self, other: "Conditions") -> "Conditions":
        """Returns these conditions with those that `other` sets, which take precedence."""
        keyed = {name: {**getattr(self, name), **getattr(other, name)} for name in _KEYED}
        single = {name: value for name in _SINGLE if (value := getattr(other, name)) is not None}
        return self.replace(**keyed, **single)


_KEYED = ("tokens", "text", "image_embedding")
_SINGLE = ("labels", "low_res", "known")

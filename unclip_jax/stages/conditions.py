"""Conditions that stages pass to each other: text features, embeddings, labels and images."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax import struct

from unclip_jax.arrays import Bool, Float, Int
from unclip_jax.models.text_features import TextFeatures


class Tokens(NamedTuple):
    """Token ids of captions.

    Attributes:
      ids: Token ids.
      mask: True for tokens, False for padding.
    """

    ids: Int["N L"]
    mask: Bool["N L"]


@struct.dataclass
class KnownRegion:
    """Known region of an image that is being edited.

    Attributes:
      image: Images in [-1, 1].
      mask: 1 where the image is known, 0 where it is generated.
    """

    image: Float["N H W 3"]
    mask: Float["N H W 1"]


@struct.dataclass
class Conditions:
    """Conditions of N images, as host arrays with one row per image.

    Outputs of encoders are keyed by the name of the stage that produced them, and the spec of a stage maps its roles to
    these names. A U-Net can therefore read both CLIP and T5, and two decoders can share one CLIP.

    Attributes:
      tokens: Tokens of captions, by the name of the stage that reads them.
      text: Text features, by the name of their encoder.
      image_embedding: Unnormalized image embeddings, by the name of the encoder whose embedding space they are in.
      labels: Class labels, starting at 0. If None, there are none, and likewise for the fields below.
      low_res: Images in [-1, 1] to upsample.
      known: Known region of an image that is being edited.
    """

    tokens: Mapping[str, Tokens] = struct.field(default_factory=dict)
    text: Mapping[str, TextFeatures] = struct.field(default_factory=dict)
    image_embedding: Mapping[str, Float["N E"]] = struct.field(default_factory=dict)
    labels: Int["N"] | None = None
    low_res: Float["N h w 3"] | None = None
    known: KnownRegion | None = None

    def repeat(self, count: int) -> "Conditions":
        """Repeats each row `count` times, with repeats adjacent."""
        return jax.tree.map(lambda rows: np.repeat(rows, count, axis=0), self)

    def with_rows(self, count: int) -> "Conditions":
        """Repeats the rows of each array to `count` rows, which must be a multiple of its number of rows."""
        return jax.tree.map(lambda rows: np.repeat(rows, count // len(rows), axis=0), self)

    def take(self, indices: Int["M"]) -> "Conditions":
        """Returns the rows with these indices."""
        return jax.tree.map(lambda rows: rows[indices], self)

    def rows(self, index: int) -> "Conditions":
        """Returns only row `index`."""
        return jax.tree.map(lambda rows: rows[index : index + 1], self)

    def merge(self, other: "Conditions") -> "Conditions":
        """Returns the union of both conditions, in which values of `other` take precedence."""
        keyed = {name: {**getattr(self, name), **getattr(other, name)} for name in _KEYED}
        single = {name: value for name in _SINGLE if (value := getattr(other, name)) is not None}
        return self.replace(**keyed, **single)


_KEYED = ("tokens", "text", "image_embedding")
_SINGLE = ("labels", "low_res", "known")

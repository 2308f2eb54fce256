"""Mean and standard deviation of CLIP's image embeddings, over which priors work.

Embeddings are stored and passed between stages raw. A prior sees them standardized per dimension, as Karlo's does.
"""

from collections.abc import Iterable

import jax
import numpy as np
from flax import struct

from unclip_jax.arrays import Float, PyTree

STATISTICS = "statistics"  # the name of these arrays among a stage's extras


@struct.dataclass
class EmbeddingStatistics:
    """Statistics of each dimension.

    Attributes:
      mean: Means, float32.
      std: Standard deviations, float32 and positive.
    """

    mean: Float["E"]
    std: Float["E"]

    @classmethod
    def from_extras(cls, extras: PyTree) -> "EmbeddingStatistics":
        """Reads the statistics from a stage's extras."""
        return cls(**{name: extras[STATISTICS][name] for name in ("mean", "std")})

    def to_extras(self) -> PyTree:
        """Returns the extras of a stage that keeps these statistics."""
        return {STATISTICS: {"mean": self.mean, "std": self.std}}

    def standardize(self, embeddings: Float["N E"]) -> Float["N E"]:
        """Maps raw embeddings to zero mean and unit standard deviation."""
        return (embeddings - self.mean) / self.std

    def unstandardize(self, embeddings: Float["N E"]) -> Float["N E"]:
        """Maps standardized embeddings back to raw ones."""
        return embeddings * self.std + self.mean


def fit(embeddings: Iterable[Float["N E"]], *, rows: int) -> EmbeddingStatistics:
    """Computes the statistics of the first `rows` embeddings, in whole batches, or of all if there are fewer."""
    taken: list[np.ndarray] = []
    for batch in embeddings:
        taken.append(np.asarray(batch, np.float64))
        if sum(map(len, taken)) >= rows:
            break
    values = np.concatenate(taken)
    return EmbeddingStatistics(mean=values.mean(0).astype(np.float32), std=values.std(0).astype(np.float32))


def shapes(embed_dim: int) -> PyTree:
    """Returns the shapes of the extras that hold the statistics of `embed_dim` dimensions."""
    row = jax.ShapeDtypeStruct((embed_dim,), np.float32)
    return EmbeddingStatistics(mean=row, std=row).to_extras()

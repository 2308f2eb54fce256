"""Mean and standard deviation of CLIP image embeddings.

Embeddings are stored and passed between stages unnormalized. Priors operate on embeddings that are standardized per
dimension, as in Karlo.
"""

from collections.abc import Iterable

import jax
import numpy as np
from flax import struct

from unclip_jax.arrays import Float, PyTree

STATISTICS = "statistics"  # key in the extras of a stage


@struct.dataclass
class EmbeddingStatistics:
    """Statistics of each dimension of an embedding.

    Attributes:
      mean: Means, float32.
      std: Positive standard deviations, float32.
    """

    mean: Float["E"]
    std: Float["E"]

    @classmethod
    def from_extras(cls, extras: PyTree) -> "EmbeddingStatistics":
        """Returns the statistics in the extras of a stage."""
        return cls(**{name: extras[STATISTICS][name] for name in ("mean", "std")})

    def to_extras(self) -> PyTree:
        """Returns the statistics as extras of a stage."""
        return {STATISTICS: {"mean": self.mean, "std": self.std}}

    def standardize(self, embeddings: Float["N E"]) -> Float["N E"]:
        """Maps unnormalized embeddings to zero mean and unit standard deviation."""
        return (embeddings - self.mean) / self.std

    def unstandardize(self, embeddings: Float["N E"]) -> Float["N E"]:
        """Maps standardized embeddings back to unnormalized ones."""
        return embeddings * self.std + self.mean


def fit(embeddings: Iterable[Float["N E"]], *, rows: int) -> EmbeddingStatistics:
    """Computes the statistics of embeddings.

    Args:
      embeddings: Batches of embeddings, at least one.
      rows: Number of embeddings to use, rounded up to whole batches. If there are fewer, all are used.
    """
    taken: list[np.ndarray] = []
    for batch in embeddings:
        taken.append(np.asarray(batch, np.float64))
        if sum(map(len, taken)) >= rows:
            break
    values = np.concatenate(taken)
    return EmbeddingStatistics(mean=values.mean(0).astype(np.float32), std=values.std(0).astype(np.float32))


def shapes(embed_dim: int) -> PyTree:
    """Returns the shapes of `EmbeddingStatistics.to_extras` for embeddings of width `embed_dim`."""
    row = jax.ShapeDtypeStruct((embed_dim,), np.float32)
    return EmbeddingStatistics(mean=row, std=row).to_extras()

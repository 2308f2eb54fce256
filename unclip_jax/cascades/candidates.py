"""Reranking of candidates by CLIP similarity."""

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, Int
from unclip_jax.kinds import kind_of
from unclip_jax.stages.stage import Stage


def best_embeddings(candidates: Float["M E"], target: Float["N E"]) -> Float["N E"]:
    """Returns, for each of N targets, the candidate embedding with the highest cosine similarity.

    unCLIP (arXiv 2204.06125, Section 2.2) ranks two candidates of the prior by their dot product with the text
    embedding instead.

    Args:
      candidates: M / N unnormalized embeddings per target, grouped by target.
      target: Unnormalized CLIP embeddings.
    """
    return candidates[_best(candidates, target)]


def best_images(clip: Stage, candidates: Float["M H W 3"], target: Float["N E"]) -> Int["N"]:
    """Returns, for each of N targets, the row of the candidate image with the highest cosine similarity.

    Args:
      clip: CLIP that embeds the candidates.
      candidates: M / N images in [-1, 1] per target, grouped by target.
      target: Unnormalized CLIP embeddings of captions or images.
    """
    pixels = np.asarray(images.to_uint8(candidates))
    embedded = kind_of(clip).encode_images(clip, pixels).image_embedding[clip.name]
    return _best(embedded, target)


def _best(candidates: Float["M E"], target: Float["N E"]) -> Int["N"]:
    count = len(candidates) // len(target)
    scores = _cosine(candidates.reshape(len(target), count, -1), target[:, None])
    return np.arange(len(target)) * count + np.argmax(scores, axis=1)


def _cosine(a: Float["... E"], b: Float["... E"]) -> Float["..."]:
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))

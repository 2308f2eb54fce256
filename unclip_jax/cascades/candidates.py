"""Reranking: of several candidates, the one that CLIP finds closest to what was asked for."""

import numpy as np

from unclip_jax import images
from unclip_jax.arrays import Float, Int
from unclip_jax.kinds import kind_of
from unclip_jax.stages.stage import Stage


def best_embeddings(candidates: Float["M E"], target: Float["N E"]) -> Float["N E"]:
    """Of M / N candidates for each of N targets, returns the one with the largest cosine similarity.

    unCLIP (arXiv 2204.06125, section 2.2) ranks the prior's two candidates by their dot product with the caption's
    embedding.
    """
    return candidates[_best(candidates, target)]


def best_images(clip: Stage, candidates: Float["M H W 3"], target: Float["N E"]) -> Int["N"]:
    """Of M / N candidates for each of N targets, returns the row of the one whose embedding is closest.

    Args:
      clip: The CLIP that embeds them.
      candidates: Images in [-1, 1].
      target: Raw CLIP embeddings, of captions or of images.
    """
    pictures = np.asarray(images.to_uint8(candidates))
    embedded = kind_of(clip).encode_images(clip, pictures).image_embedding[clip.name]
    return _best(embedded, target)


def _best(candidates: Float["M E"], target: Float["N E"]) -> Int["N"]:
    count = len(candidates) // len(target)
    scores = _cosine(candidates.reshape(len(target), count, -1), target[:, None])
    return np.arange(len(target)) * count + np.argmax(scores, axis=1)


def _cosine(a: Float["... E"], b: Float["... E"]) -> Float["..."]:
    return np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))

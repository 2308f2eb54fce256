"""Quality of CLIP and prior embeddings, measured without generating images."""

import dataclasses

import numpy as np

from unclip_jax.arrays import Float


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Top-1 retrieval accuracy among pairs of an image and a text. The chance level is 1 / n.

    Attributes:
      n: Number of pairs.
      text_to_image: Fraction of the texts whose closest image is their own.
      image_to_text: Fraction of the images whose closest text is their own.
    """

    n: int
    text_to_image: float
    image_to_text: float


@dataclasses.dataclass(frozen=True)
class PriorCosine:
    """Mean cosine similarities of generated embeddings, which are equal if the prior ignores captions.

    Attributes:
      n: Number of generated embeddings.
      cosine: Similarity to the embedding of the true image.
      cosine_shuffled: Similarity to the embeddings of the other captions' true images.
    """

    n: int
    cosine: float
    cosine_shuffled: float


def retrieval(image: Float["N E"], text: Float["N E"]) -> Retrieval:
    """Computes the top-1 retrieval accuracy in both directions by cosine similarity.

    A tie is incorrect, so the accuracy of a collapsed encoder is 0.

    Args:
      image: Image embeddings, not necessarily normalized.
      text: Text embeddings of the same pairs.
    """
    similarity = unit(text) @ unit(image).T
    own = np.diag(similarity)
    others = np.where(np.eye(len(own), dtype=bool), -np.inf, similarity)
    return Retrieval(len(own), float(np.mean(own > others.max(axis=1))), float(np.mean(own > others.max(axis=0))))


def choices(image: Float["N E"], text: Float["N K E"]) -> np.ndarray:
    """Returns the index of the closest of K texts for each image by cosine similarity.

    Args:
      image: Image embeddings, not necessarily normalized.
      text: Embeddings of K texts per image.

    Returns:
      int [N], -1 if the closest texts are tied.
    """
    similarity = np.einsum("ne,nke->nk", unit(image), unit(text))
    best = similarity.max(axis=1, keepdims=True)
    return np.where((similarity == best).sum(axis=1) == 1, similarity.argmax(axis=1), -1)


def prior_cosine(generated: Float["N E"], true: Float["N E"]) -> PriorCosine:
    """Computes the mean cosine similarities of matching and of all other pairs.

    Args:
      generated: At least two embeddings, not necessarily normalized.
      true: Embeddings of the true images.
    """
    similarity = unit(generated) @ unit(true).T
    n = len(similarity)
    paired = float(np.trace(similarity))
    return PriorCosine(n, paired / n, (float(similarity.sum()) - paired) / (n * (n - 1)))


def unit(embeddings: Float["N E"]) -> np.ndarray:
    """Normalizes embeddings to unit length in float64."""
    embeddings = np.asarray(embeddings, np.float64)
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)

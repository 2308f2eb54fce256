"""What CLIP and the prior are worth by themselves, before any picture is made."""

import dataclasses

import numpy as np

from unclip_jax.arrays import Float


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Shares of `n` pairs of which the own partner is the nearest of all `n`; guessing finds 1 / n."""

    n: int
    text_to_image: float
    image_to_text: float


@dataclasses.dataclass(frozen=True)
class PriorCosine:
    """Mean cosine of generated embeddings with those of the true pictures, and with those of other captions' pictures:
    a prior that ignores its caption has the same of both."""

    n: int
    cosine: float
    cosine_shuffled: float


def retrieval(image: Float["N E"], text: Float["N E"]) -> Retrieval:
    """Top-1 retrieval both ways among N pairs, by cosine. A tie is no hit: a tower that has collapsed finds nothing."""
    similarity = unit(text) @ unit(image).T
    own = np.diag(similarity)
    others = np.where(np.eye(len(own), dtype=bool), -np.inf, similarity)
    return Retrieval(len(own), float(np.mean(own > others.max(axis=1))), float(np.mean(own > others.max(axis=0))))


def choices(image: Float["N E"], text: Float["N K E"]) -> np.ndarray:
    """For each picture the number of the nearest of its K texts by cosine, int [N]; -1 where two are equally near."""
    similarity = np.einsum("ne,nke->nk", unit(image), unit(text))
    best = similarity.max(axis=1, keepdims=True)
    return np.where((similarity == best).sum(axis=1) == 1, similarity.argmax(axis=1), -1)


def prior_cosine(generated: Float["N E"], true: Float["N E"]) -> PriorCosine:
    """Cosines of pair i, i, and of all pairs i, j with i != j. At least two pairs."""
    similarity = unit(generated) @ unit(true).T
    n = len(similarity)
    paired = float(np.trace(similarity))
    return PriorCosine(n, paired / n, (float(similarity.sum()) - paired) / (n * (n - 1)))


def unit(embeddings: Float["N E"]) -> np.ndarray:
    """The embeddings at length 1, float64."""
    embeddings = np.asarray(embeddings, np.float64)
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)

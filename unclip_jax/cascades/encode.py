"""Encoding of the prompts and images of a plan into conditions."""

import warnings
from collections.abc import Sequence

import numpy as np

from unclip_jax.arrays import Float
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.plan import Plan
from unclip_jax.kinds import kind_of
from unclip_jax.stages.conditions import Conditions

MAX_WORDS = 20  # maximum number of words that a warning lists


def encode(plan: Plan) -> Conditions:
    """Encodes the prompts, labels, image or image embeddings of a plan into conditions of its N images.

    Captions that are too long are truncated with a warning. Another warning lists words that no training caption
    contained.
    """
    conditions = Conditions(labels=plan.labels).repeat(plan.count)
    if plan.prompts:
        _warn_of_unknown_words(plan.cascade, plan.prompts)
        conditions = conditions.merge(encode_captions(plan, plan.prompts).repeat(plan.count))
    if plan.image is not None:
        clip = plan.cascade.stages[plan.space]
        embedded = kind_of(clip).encode_images(clip, np.asarray(plan.image)[None])
        return conditions.merge(embedded.repeat(plan.count))
    if plan.image_embeddings is not None:
        embeddings = np.asarray(plan.image_embeddings, np.float32)
        return conditions.merge(Conditions(image_embedding={plan.space: embeddings}))
    return conditions


def encode_captions(plan: Plan, captions: Sequence[str]) -> Conditions:
    """Encodes captions for every stage that reads them, with one row per caption."""
    conditions = Conditions()
    for stage in plan.caption_stages():
        conditions = conditions.merge(kind_of(stage).encode_text(stage, captions))
    return conditions


def target_of(plan: Plan, conditions: Conditions) -> Float["N E"] | None:
    """Returns the embeddings to which candidates are compared, or None if there is no CLIP for ranking.

    These are image embeddings if `conditions` contains them and the image stages receive the empty caption or there are
    no prompts. Otherwise they are text embeddings.

    Args:
      plan: The plan.
      conditions: Conditions before the prior runs.
    """
    if plan.ranking_clip is None:
        return None
    embedding = conditions.image_embedding.get(plan.ranking_clip)
    if embedding is not None and (plan.empty_caption or not plan.prompts):
        return embedding
    return conditions.text[plan.ranking_clip].pooled


def _warn_of_unknown_words(cascade: Cascade, prompts: Sequence[str]) -> None:
    tokenizers = [stage.tokenizer for stage in cascade.stages.values() if stage.tokenizer is not None]
    unknown = dict.fromkeys(
        word for tokenizer in tokenizers for prompt in prompts for word in tokenizer.unknown_words(prompt)
    )
    if unknown:
        named = ", ".join(list(unknown)[:MAX_WORDS])
        more = f" and {len(unknown) - MAX_WORDS} more" if len(unknown) > MAX_WORDS else ""
        about = f" The cascade generates {cascade.description}." if cascade.description else ""
        warnings.warn(f"no training caption of the cascade contains the words: {named}{more}.{about}", stacklevel=4)

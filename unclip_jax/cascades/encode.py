"""Prompts and images of a plan become conditions, through the encoders that its stages read."""

import warnings
from collections.abc import Sequence

import numpy as np

from unclip_jax.arrays import Float
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.plan import Plan
from unclip_jax.kinds import kind_of
from unclip_jax.stages.conditions import Conditions

MAX_WORDS = 20  # that a warning names


def encode(plan: Plan) -> Conditions:
    """Returns the conditions of a plan's N images.

    Captions that are too long are truncated, with a warning; another warning names words that no training caption had.
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
        given = np.asarray(plan.image_embeddings, np.float32)
        return conditions.merge(Conditions(image_embedding={plan.space: given}))
    return conditions


def encode_captions(plan: Plan, captions: Sequence[str]) -> Conditions:
    """Returns captions as every stage that reads them needs them, one row each."""
    conditions = Conditions()
    for stage in plan.caption_stages():
        conditions = conditions.merge(kind_of(stage).encode_text(stage, captions))
    return conditions


def target_of(plan: Plan, conditions: Conditions) -> Float["N E"] | None:
    """Returns the embeddings to which the best candidate is the closest; None if the plan ranks nothing.

    They are those of the captions, or of the image if the image stages receive the empty caption.
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
        about = f" It draws {cascade.description}." if cascade.description else ""
        warnings.warn(f"no caption that this cascade was trained on has the words: {named}{more}.{about}", stacklevel=4)

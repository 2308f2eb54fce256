"""Measures of CLIP and of the prior. Their JSON results are under the key "stages"."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from unclip_jax.evaluation import embedding_quality
from unclip_jax.evaluation.suite import Measure, Run
from unclip_jax.evaluation.suites.shapes.prompts import draw_prompts, texts
from unclip_jax.evaluation.suites.shapes.scenes import ATTRIBUTE_VALUES, attributes, embed_true_images, label
from unclip_jax.evaluation.table import Result, percent, value_table

CAPTION = "a {size} {colour} {shape} on a {background} background"


def clip_retrieval(run: Run) -> dict[str, Any]:
    """Computes the fields of `Retrieval`. Captions differ in content, so each describes one image."""
    prompts = draw_prompts("any", run.num_prompts, run.seed, distinct=True)
    image = embed_true_images(run, prompts)
    return dataclasses.asdict(embedding_quality.retrieval(image, run.model.encode_text(texts(prompts))))


def _retrieval_text(result: Result) -> str:
    return (
        f"text to image {percent(result['text_to_image'])}, image to text {percent(result['image_to_text'])}, "
        f"chance {percent(1 / result['n'])} (n {result['n']})"
    )


def clip_attributes(run: Run) -> dict[str, Any]:
    """Computes, per attribute, the fraction of true images whose closest caption has the correct value."""
    prompts = draw_prompts("one_object", run.num_prompts, run.seed)
    image = embed_true_images(run, prompts)
    true = [attributes(prompt.scene) for prompt in prompts]
    shares = {}
    for attribute, values in ATTRIBUTE_VALUES.items():
        captions = [[CAPTION.format(**{**scene, attribute: value}) for value in values] for scene in true]
        distinct = sorted({caption for row in captions for caption in row})
        index = {caption: number for number, caption in enumerate(distinct)}
        embeddings = run.model.encode_text(distinct)[[[index[caption] for caption in row] for row in captions]]
        correct = [list(values).index(scene[attribute]) for scene in true]
        shares[attribute] = float(np.mean(embedding_quality.choices(image, embeddings) == correct))
    return {"n": len(prompts), "attributes": shares}


def _attributes_text(result: Result) -> str:
    shares = ", ".join(f"{label(attribute)} {percent(share)}" for attribute, share in result["attributes"].items())
    return f"identified by CLIP: {shares} (n {result['n']})"


def prior_cosine(run: Run) -> dict[str, Any]:
    """Computes the fields of `PriorCosine`."""
    prompts = draw_prompts("any", run.num_prompts, run.seed, distinct=True)
    true = embed_true_images(run, prompts)
    sampled = [
        run.model.sample_prior(texts(batch), seed=run.seed, first_image=start) for start, batch in run.batches(prompts)
    ]
    return dataclasses.asdict(embedding_quality.prior_cosine(np.concatenate(sampled), true))


def _cosine_text(result: Result) -> str:
    return (
        f"{result['cosine']:.3f} to the embedding of the true image, {result['cosine_shuffled']:.3f} to those of other "
        f"images (n {result['n']})"
    )


def _under_stages(name: str, result: Result) -> Mapping[str, Any]:
    return {"stages": {name: result}}


MEASURES = (
    Measure(
        "clip_retrieval",
        clip_retrieval,
        value_table(_retrieval_text),
        "CLIP retrieval of true images from their captions, and of captions from their images",
        _under_stages,
        generates_images=False,
    ),
    Measure(
        "clip_attributes",
        clip_attributes,
        value_table(_attributes_text),
        "true images of one_object's scenes for which CLIP identifies the correct caption among those that differ only "
        "in the shape; likewise for color, size and background",
        _under_stages,
        generates_images=False,
    ),
    Measure(
        "prior_cosine",
        prior_cosine,
        value_table(_cosine_text),
        "cosine similarity between the prior's embeddings and those of true images",
        _under_stages,
        generates_images=False,
    ),
)

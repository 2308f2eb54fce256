"""Measures of accuracy: the fraction of images that match their captions."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from unclip_jax import images
from unclip_jax.data.captioned_shapes.drawing import draw
from unclip_jax.data.captioned_shapes.scene import Scene
from unclip_jax.evaluation.suite import Measure, Run
from unclip_jax.evaluation.suites.shapes.accuracy import ATTRIBUTES, chance, judge, read_scenes, summarize
from unclip_jax.evaluation.suites.shapes.generation import generate_scenes, one_object
from unclip_jax.evaluation.suites.shapes.prompts import Prompt, draw_prompts, stream, texts
from unclip_jax.evaluation.suites.shapes.scenes import embed_true_images, label, true_image, upsampler_input
from unclip_jax.evaluation.table import Column, Line, Result, Table, percent

READER_SCENES = 2000
COLUMNS = (
    Column("row", 14),
    Column("n", 4, ">"),
    Column("correct", 7, ">"),
    Column("95% interval", 13, ">"),
    *(Column(label(name), max(len(name), 6), ">") for name in ATTRIBUTES),
)


def accuracy(scenes: Sequence[Scene | None], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Computes the fields of `Accuracy` from the scenes that were read from images, and their prompts."""
    verdicts = [judge(scene, prompt.caption) for scene, prompt in zip(scenes, prompts, strict=True)]
    return dataclasses.asdict(summarize(verdicts))


def shared_images(run: Run) -> dict[str, Any]:
    """Computes the accuracy of the images of one object, which other measures use as well."""
    generated = run.shared(one_object)
    return accuracy(generated.scenes, generated.prompts)


def selection(run: Run, name: str) -> dict[str, Any]:
    """Computes the accuracy of images for a selection of prompts, one of SELECTIONS."""
    prompts = draw_prompts(name, run.num_prompts, run.seed)
    return accuracy(generate_scenes(run, texts(prompts)), prompts)


def embedding_only(run: Run) -> dict[str, Any]:
    """Computes the accuracy of images that the decoder generates without the caption."""
    prompts = draw_prompts("one_object", run.num_prompts, run.seed)
    return accuracy(generate_scenes(run, texts(prompts), empty_caption=True), prompts)


def true_embedding(run: Run) -> dict[str, Any]:
    """Computes the accuracy of images that the decoder generates from embeddings of true images."""
    prompts = draw_prompts("one_object", run.num_prompts, run.seed)
    embeddings = embed_true_images(run, prompts)
    return accuracy(generate_scenes(run, texts(prompts), image_embeddings=embeddings, empty_caption=True), prompts)


def upsampled(run: Run, sizes: Sequence[int]) -> dict[str, Any]:
    """Computes the accuracy of true images after upsampling.

    Args:
      run: The run of the measure.
      sizes: Sizes in pixels to which the images are upsampled in turn. The input has a quarter of the first size.
    """
    prompts = draw_prompts("one_object", run.num_prompts, run.seed)
    scenes: list[Scene | None] = []
    for start, batch in run.batches(prompts):
        low_res = np.stack([upsampler_input(true_image(prompt.scene, sizes[0])) for prompt in batch])
        for size in sizes:
            upsampled = run.model.upsample(low_res, size=size, seed=run.seed, first_image=start)
            low_res = images.to_unit(upsampled)
        scenes += read_scenes(upsampled)
    return accuracy(scenes, prompts)


def reader(run: Run) -> dict[str, Any]:
    """Computes the accuracy of rendered images, whose only errors are those of reading scenes."""
    prompts = draw_prompts("any", READER_SCENES, run.seed)
    scenes: list[Scene | None] = []
    for _, batch in run.batches(prompts):
        scenes += read_scenes([draw(prompt.scene) for prompt in batch])
    return accuracy(scenes, prompts)


def shuffled(run: Run) -> dict[str, Any]:
    """Computes the accuracy of images with captions of other images, paired by a random cycle."""
    generated = run.shared(one_object)
    prompts, scenes = generated.prompts, generated.scenes
    cycle = stream("shuffled", run.seed).permutation(len(prompts))
    others = [prompts[index] for index in np.roll(cycle, 1)]
    expected = chance([prompt.caption for prompt in prompts], [prompt.scene for prompt in prompts])
    return {
        **accuracy([scenes[index] for index in cycle], others),
        "chance": {"accuracy": expected.accuracy, "attributes": expected.attributes},
    }


def _lines(name: str, result: Result) -> list[Line]:
    low, high = result["interval"]
    line = {"n": str(result["n"]), "95% interval": f"{100 * low:.1f} to {100 * high:.1f}", **_shares(name, result)}
    return [line, _shares("(chance)", result["chance"])] if "chance" in result else [line]


def _shares(name: str, result: Result) -> Line:
    attributes = {label(attribute): percent(share) for attribute, share in result["attributes"].items()}
    return {"row": name, "correct": percent(result["accuracy"]), **attributes}


TABLE = Table(COLUMNS, _lines)
MEASURES = (
    Measure(
        "one_object", shared_images, TABLE, "one object, in combinations of shape and color from the training data"
    ),
    Measure("two_objects", functools.partial(selection, name="two_objects"), TABLE, "two objects and their relation"),
    Measure(
        "compositional",
        functools.partial(selection, name="compositional"),
        TABLE,
        "one object, in combinations of shape and color that are not in the training data",
    ),
    Measure(
        "embedding_only",
        embedding_only,
        TABLE,
        "the prompts of one_object for the prior, and the empty caption for the decoder",
    ),
    Measure(
        "true_embedding",
        true_embedding,
        TABLE,
        "CLIP embeddings of true images of one_object's scenes, and the empty caption for the decoder",
    ),
    Measure(
        "from_16px",
        functools.partial(upsampled, sizes=(64, 256)),
        TABLE,
        "true images of one_object's scenes at 16 px, upsampled to 64 and 256 px",
        generates_images=False,
    ),
    Measure(
        "from_64px",
        functools.partial(upsampled, sizes=(256,)),
        TABLE,
        "true images of one_object's scenes at 64 px, upsampled to 256 px",
        generates_images=False,
    ),
    Measure(
        "reader",
        reader,
        TABLE,
        "true images, to measure the errors of reading scenes from images",
        generates_images=False,
    ),
    Measure(
        "free_wording",
        functools.partial(selection, name="free_wording"),
        TABLE,
        "one object, with one to three named attributes, in wordings that are not in the training data",
    ),
    Measure("shuffled", shuffled, TABLE, "one_object's images with each other's captions, and the chance level"),
)

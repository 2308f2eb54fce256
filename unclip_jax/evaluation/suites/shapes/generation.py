"""Image generation for measures, and the scenes in generated images."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from unclip_jax.arrays import Float, UInt8
from unclip_jax.data.captioned_shapes.scene import Scene
from unclip_jax.evaluation.suite import Run
from unclip_jax.evaluation.suites.shapes.accuracy import read_scenes
from unclip_jax.evaluation.suites.shapes.prompts import Prompt, draw_prompts, texts
from unclip_jax.evaluation.suites.shapes.scenes import colors
from unclip_jax.evaluation.upsampling_quality import flat


def generate_images(
    run: Run, captions: list[str], *, image_embeddings: Float["N E"] | None = None, empty_caption: bool = False
) -> Iterator[UInt8["B H W 3"]]:
    """Generates one image per caption and yields the images in batches.

    Args:
      run: The run of a measure.
      captions: The captions.
      image_embeddings: See `GenerateImages`.
      empty_caption: See `GenerateImages`.
    """
    for start, batch in run.batches(captions):
        yield run.model.generate_images(
            batch,
            seed=run.seed,
            first_image=start,
            image_embeddings=None if image_embeddings is None else image_embeddings[start : start + len(batch)],
            empty_caption=empty_caption,
        )


def generate_scenes(run: Run, captions: list[str], **options: Any) -> list[Scene | None]:
    """Generates one image per caption and reads its scene.

    Args:
      run: The run of a measure.
      captions: The captions.
      **options: Keyword arguments of `generate_images`.

    Returns:
      One scene per caption, or None if the image is unreadable.
    """
    return [scene for images in generate_images(run, captions, **options) for scene in read_scenes(images)]


@dataclasses.dataclass(frozen=True)
class OneObject:
    """The generated images of prompts with one object.

    Attributes:
      prompts: The prompts.
      scenes: The scene in each image, or None if the image is unreadable.
      flat_shares: The fraction of flat pixels of each readable image.
    """

    prompts: list[Prompt]
    scenes: list[Scene | None]
    flat_shares: list[float]


def one_object(run: Run) -> OneObject:
    """Generates images of prompts with one object.

    Several measures use these images. Call `run.shared(one_object)` to generate them only once.
    """
    prompts = draw_prompts("one_object", run.num_prompts, run.seed)
    scenes: list[Scene | None] = []
    shares = []
    for images in generate_images(run, texts(prompts)):
        read = read_scenes(images)
        scenes += read
        shares += [flat(image, colors(scene)) for image, scene in zip(images, read, strict=True) if scene]
    return OneObject(prompts, scenes, shares)

"""Generated images and the scenes that are read from them."""

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
    """Generates one image per caption and yields them in batches. See `GenerateImages` for the arguments."""
    for start, batch in run.batches(captions):
        yield run.model.generate_images(
            batch,
            seed=run.seed,
            first_image=start,
            image_embeddings=None if image_embeddings is None else image_embeddings[start : start + len(batch)],
            empty_caption=empty_caption,
        )


def generate_scenes(run: Run, captions: list[str], **options: Any) -> list[Scene | None]:
    """Generates one image per caption and reads its scene, or None if it is unreadable.

    Args:
      options: Options of `generate_images`.
    """
    return [scene for images in generate_images(run, captions, **options) for scene in read_scenes(images)]


@dataclasses.dataclass(frozen=True)
class OneObject:
    """The generated images of prompts with one object.

    Attributes:
      scenes: The scene of each image, or None if it is unreadable.
      flat_shares: The share of flat pixels of each readable image.
    """

    prompts: list[Prompt]
    scenes: list[Scene | None]
    flat_shares: list[float]


def one_object(run: Run) -> OneObject:
    """Generates the images of prompts with one object. Use `run.shared(one_object)`: several measures need them."""
    prompts = draw_prompts("one_object", run.num_prompts, run.seed)
    scenes: list[Scene | None] = []
    shares = []
    for images in generate_images(run, texts(prompts)):
        read = read_scenes(images)
        scenes += read
        shares += [flat(image, colors(scene)) for image, scene in zip(images, read, strict=True) if scene]
    return OneObject(prompts, scenes, shares)

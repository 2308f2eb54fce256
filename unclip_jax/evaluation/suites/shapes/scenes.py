"""Attributes, colors and true images of scenes."""

import dataclasses

import numpy as np

from unclip_jax.arrays import Float, UInt8
from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.scene import COLOURS, SHAPES, SIZES, Scene
from unclip_jax.data.transforms import low_resolution
from unclip_jax.evaluation.suite import BATCH_SIZE, Run
from unclip_jax.evaluation.suites.shapes.prompts import Prompt

# Attributes of a scene with one object and their possible values.
ATTRIBUTE_VALUES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "background": COLOURS}
UPSAMPLER_FACTOR = 4


def label(attribute: str) -> str:
    """Returns the name of an attribute in tables. Stored scenes and results spell the color "colour"."""
    return "color" if attribute == "colour" else attribute


def attributes(scene: Scene) -> dict[str, str]:
    """Returns the attributes of a scene with one object."""
    return {**dataclasses.asdict(scene.objects[0]), "background": scene.background}


def colors(scene: Scene) -> list[tuple[int, int, int]]:
    """Returns the RGB colors of a scene."""
    return [COLOURS[name] for name in (scene.background, *(item.colour for item in scene.objects))]


def true_image(scene: Scene, size: int) -> UInt8["H W 3"]:
    """Renders a scene at 256 or 64 px."""
    image = draw(scene)
    return image if size == image.shape[0] else thumbnail(image)


def upsampler_input(image: UInt8["H W 3"]) -> Float["h w 3"]:
    """Downscales an image by a factor of 4. The result in [-1, 1] is that of an ideal previous stage."""
    return low_resolution(image, UPSAMPLER_FACTOR)


def embed_true_images(run: Run, prompts: list[Prompt]) -> Float["N E"]:
    """Computes CLIP embeddings of the rendered scenes of prompts."""
    batches = (prompts[start : start + BATCH_SIZE] for start in range(0, len(prompts), BATCH_SIZE))
    return np.concatenate(
        [run.model.encode_image(np.stack([draw(prompt.scene) for prompt in batch])) for batch in batches]
    )

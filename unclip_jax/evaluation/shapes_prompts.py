"""The scenes and wordings that the shapes suite asks for.

They are drawn from streams of their own, one a purpose and seed, and belong to no split: no training has seen them.
"""

import dataclasses
import zlib

import numpy as np

from unclip_jax.data.captioned_shapes.captions import Caption, free_caption, full_caption
from unclip_jax.data.captioned_shapes.scene import Object, Scene, sample_scene

# How the prompts of a purpose are drawn: number of objects (None: as in the data) and whether pairs are held-out ones.
SELECTIONS = {
    "one_object": {"num_objects": 1},
    "two_objects": {"num_objects": 2},
    "compositional": {"num_objects": 1, "held_out": True},
    "free_wording": {"num_objects": 1},
    "any": {},
}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A caption and the scene that it was written for."""

    caption: Caption
    scene: Scene


def stream(purpose: str, seed: int) -> np.random.Generator:
    """The random numbers of one purpose under one seed."""
    return np.random.default_rng([zlib.crc32(f"shapes suite, {purpose}".encode()), seed])


def draw_prompts(selection: str, count: int, seed: int, *, distinct: bool = False) -> list[Prompt]:
    """`count` prompts of a selection of scenes; every caption names everything, save those of `free_wording`.

    A larger `count` under the same seed begins with the same prompts. `distinct`: no two captions say the same, in
    whatever words.
    """
    rng = stream(f"{selection}, distinct" if distinct else selection, seed)
    compose = free_caption if selection == "free_wording" else full_caption
    prompts, said = [], set()
    while len(prompts) < count:
        scene = sample_scene(rng, **SELECTIONS[selection])
        caption = compose(scene, rng)
        content = dataclasses.replace(caption, text="")
        if distinct and content in said:
            continue
        said.add(content)
        prompts.append(Prompt(caption, scene))
    return prompts


def likewise_placed(item: Object, count: int, rng: np.random.Generator) -> list[Object]:
    """Other objects that the data could hold for the same caption: of the size of `item`, placed as the data places
    them. Where an object lies, and how large it is within its size, does not hang on its shape or colour."""
    objects: list[Object] = []
    while len(objects) < count:
        other = sample_scene(rng, num_objects=1).objects[0]
        if other.size == item.size:
            objects.append(dataclasses.replace(other, shape=item.shape, colour=item.colour))
    return objects

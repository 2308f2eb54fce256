"""Prompts of the shapes suite and the scenes that they describe.

Each purpose and seed has its own random stream. The scenes belong to no split and therefore to no training data.
"""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from unclip_jax.data.captioned_shapes.captions import Caption, free_caption, full_caption
from unclip_jax.data.captioned_shapes.scene import Scene, sample_scene

# Arguments of `sample_scene` for each selection of scenes.
SELECTIONS = {
    "one_object": {"num_objects": 1},
    "two_objects": {"num_objects": 2},
    "compositional": {"num_objects": 1, "held_out": True},
    "free_wording": {"num_objects": 1},
    "any": {},
}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A caption and the scene that it describes."""

    caption: Caption
    scene: Scene


def stream(purpose: str, seed: int) -> np.random.Generator:
    """Returns the random generator for a purpose and a seed."""
    return np.random.default_rng([zlib.crc32(f"shapes suite, {purpose}".encode()), seed])


def draw_prompts(selection: str, count: int, seed: int, *, distinct: bool = False) -> list[Prompt]:
    """Samples prompts.

    Captions name every attribute, except those of "free_wording". With the same seed, a larger `count` only appends
    prompts.

    Args:
      selection: One of SELECTIONS.
      count: Number of prompts.
      seed: Random seed.
      distinct: Whether all captions must differ in content, not only in wording.
    """
    rng = stream(f"{selection}, distinct" if distinct else selection, seed)
    compose = free_caption if selection == "free_wording" else full_caption
    prompts, contents = [], set()
    while len(prompts) < count:
        scene = sample_scene(rng, **SELECTIONS[selection])
        caption = compose(scene, rng)
        content = dataclasses.replace(caption, text="")
        if distinct and content in contents:
            continue
        contents.add(content)
        prompts.append(Prompt(caption, scene))
    return prompts


def texts(prompts: Sequence[Prompt]) -> list[str]:
    """Returns the texts of the captions."""
    return [prompt.caption.text for prompt in prompts]

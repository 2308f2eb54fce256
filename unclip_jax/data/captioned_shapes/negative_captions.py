"""Negative captions: training captions in which one statement is false."""

import dataclasses

import numpy as np

from unclip_jax.data.captioned_shapes.captions import Caption, NamedObject, captions
from unclip_jax.data.captioned_shapes.scene import (
    COLOURS,
    HELD_OUT,
    INVERSE_RELATION,
    RELATIONS,
    SHAPES,
    SIZES,
    Object,
    Scene,
    is_named,
    pick,
)


def negative_captions(
    scene: Scene, rng: np.random.Generator, count: int, *, change: np.random.Generator
) -> list[Caption]:
    """Samples a negative caption for each caption that `captions` samples from the same state of `rng`.

    It has the same wording except for one change: a named attribute differs, the shapes or colors of the objects are
    swapped, or their relation differs. No negative caption is true of the scene or names a held-out pair.

    Args:
      scene: The scene that the captions describe.
      rng: Generator in the state from which `captions` samples the captions.
      count: Number of captions.
      change: Generator of the changes.
    """
    state = rng.bit_generator.state
    negatives = []
    for index, caption in enumerate(captions(scene, rng, count)):
        while True:
            again = np.random.default_rng()
            again.bit_generator.state = state
            negative = captions(_changed(scene, caption, change), again, count)[index]
            if negative != caption and not describes(negative, scene):
                negatives.append(negative)
                break
    return negatives


def describes(caption: Caption, scene: Scene) -> bool:
    """Returns whether a caption is true of a scene, with the objects in either order."""
    if caption.background not in (None, scene.background) or len(caption.objects) != len(scene.objects):
        return False

    def fits(named: NamedObject, item: Object) -> bool:
        return all(value in (None, getattr(item, name)) for name, value in dataclasses.asdict(named).items())

    if all(map(fits, caption.objects, scene.objects)) and caption.relation in (None, scene.relation):
        return True
    swapped = len(scene.objects) == 2 and caption.relation in (None, INVERSE_RELATION[scene.relation])
    return swapped and all(map(fits, caption.objects, scene.objects[::-1]))


def _changed(scene: Scene, caption: Caption, rng: np.random.Generator) -> Scene:
    """Returns the scene with one random change, or unchanged if the change would create a held-out pair.

    The caption does not necessarily name the changed attribute. With two objects, most changes affect the relation or
    swap shapes or colors, because CLIP learns these last.
    """
    first, *second = scene.objects
    draw = rng.random() if second else 1.0
    if draw < 0.45:
        return dataclasses.replace(scene, relation=_another(RELATIONS, scene.relation, rng))
    if draw < 0.85:
        name = pick(rng, ("shape", "colour"))
        objects = (
            dataclasses.replace(first, **{name: getattr(second[0], name)}),
            dataclasses.replace(second[0], **{name: getattr(first, name)}),
        )
    else:
        index = int(rng.integers(len(scene.objects)))
        name = pick(rng, ("shape", "shape", "colour", "size", "background"))
        if name == "background":
            return dataclasses.replace(scene, background=_another_color(scene.background, rng))
        item = scene.objects[index]
        value = {
            "shape": lambda: _another(SHAPES, item.shape, rng),
            "colour": lambda: _another_color(item.colour, rng),
            "size": lambda: _another(tuple(SIZES), item.size, rng),
        }[name]()
        objects = list(scene.objects)
        objects[index] = dataclasses.replace(item, **{name: value})
    if any((item.shape, item.colour) in HELD_OUT for item in objects):
        return scene
    return dataclasses.replace(scene, objects=tuple(objects))


def _another(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return pick(rng, tuple(other for other in values if other != value))


def _another_color(color: str, rng: np.random.Generator) -> str:
    """Samples another named color. A color without a name is kept."""
    return _another(tuple(COLOURS), color, rng) if is_named(color) else color

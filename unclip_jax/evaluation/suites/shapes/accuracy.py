"""Accuracy of images of captioned shapes: the share of images that match their captions.

A scene is read from the pixels of an image and compared with what the caption names. The image is correct if everything
that the caption names is correct. If the image is unreadable or has another number of objects than the caption, then it
and all its attributes are incorrect.

The attributes are `shape`, `colour` and `size` (correct if they are correct for every object for which the caption
names them), `background`, `relation` (if the caption names one), `number` (of objects) and `readable`.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from unclip_jax.arrays import UInt8
from unclip_jax.data.captioned_shapes.captions import Caption, NamedObject
from unclip_jax.data.captioned_shapes.reading import read
from unclip_jax.data.captioned_shapes.scene import Object, Scene, relation_between
from unclip_jax.evaluation.intervals import wilson

OBJECT_ATTRIBUTES = ("shape", "colour", "size")
ATTRIBUTES = (*OBJECT_ATTRIBUTES, "background", "relation", "number", "readable")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether an image matches a caption, by attribute: those that the caption names, `number` and `readable`."""

    attributes: dict[str, bool]

    @property
    def correct(self) -> bool:
        return all(self.attributes.values())


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares of correct images and attributes.

    Attributes:
      accuracy: Share of correct images.
      n: Number of images.
      interval: 95% Wilson interval of `accuracy`.
      attributes: Share of images in which an attribute is correct, among the images whose captions name it. Attributes
        that no caption names are absent.
    """

    accuracy: float
    n: int
    interval: tuple[float, float]
    attributes: dict[str, float]


def read_scenes(images: UInt8["N 256 256 3"]) -> list[Scene | None]:
    """Reads the scene of each image. Unreadable images become None."""
    return [read(image) for image in np.asarray(images)]


def judge(scene: Scene | None, caption: Caption) -> Verdict:
    """Compares the scene that was read from an image with a caption.

    Two objects have no order. They are compared in the order in which more attributes are correct.

    Args:
      scene: If None, the image is unreadable.
    """
    named = _named_attributes(caption)
    if scene is None or len(scene.objects) != len(caption.objects):
        return Verdict({**dict.fromkeys(named, False), "number": False, "readable": scene is not None})
    orders = (_compare(scene.background, objects, caption, named) for objects in itertools.permutations(scene.objects))
    best = max(orders, key=lambda attributes: sum(attributes.values()))
    return Verdict({**best, "number": True, "readable": True})


def summarize(verdicts: Sequence[Verdict]) -> Accuracy:
    """Computes the shares of correct images and attributes.

    Raises:
      ValueError: If `verdicts` is empty.
    """
    if not verdicts:
        raise ValueError("verdicts must not be empty.")
    shares = {}
    for attribute in ATTRIBUTES:
        hits = [verdict.attributes[attribute] for verdict in verdicts if attribute in verdict.attributes]
        if hits:
            shares[attribute] = sum(hits) / len(hits)
    correct = sum(verdict.correct for verdict in verdicts)
    return Accuracy(correct / len(verdicts), len(verdicts), wilson(correct, len(verdicts)), shares)


def chance(captions: Sequence[Caption], scenes: Sequence[Scene]) -> Accuracy:
    """Computes the expected accuracy of perfect images with each other's captions, over all such pairs.

    Args:
      captions: At least two.
      scenes: One per caption, the scene that it describes.
    """
    pairs = itertools.permutations(range(len(scenes)), 2)
    return summarize([judge(scenes[image], captions[caption]) for image, caption in pairs])


def _named_attributes(caption: Caption) -> list[str]:
    of_objects = [
        attribute
        for attribute in OBJECT_ATTRIBUTES
        if any(getattr(item, attribute) is not None for item in caption.objects)
    ]
    return of_objects + [name for name in ("background", "relation") if getattr(caption, name) is not None]


def _compare(background: str, objects: Sequence[Object], caption: Caption, named: Iterable[str]) -> dict[str, bool]:
    """Returns whether each named attribute is correct if objects[i] is the caption's object i."""
    correct = {}
    for attribute in named:
        if attribute == "background":
            correct[attribute] = background == caption.background
        elif attribute == "relation":
            correct[attribute] = relation_between(objects[0], objects[1]) == caption.relation
        else:
            pairs = zip(objects, caption.objects, strict=True)
            correct[attribute] = all(_has(item, expected, attribute) for item, expected in pairs)
    return correct


def _has(item: Object, expected: NamedObject, attribute: str) -> bool:
    """Returns whether an attribute of an object is correct. An attribute that the caption does not name always is."""
    return getattr(expected, attribute) in (None, getattr(item, attribute))

"""Accuracy of captioned-shapes images: the fraction of images that match their captions.

The scene is read from the pixels of an image and compared with the attributes that the caption names. An image is
correct if all of them are correct. If it is unreadable or has a different number of objects, it and all attributes that
the caption names are incorrect.

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
    """Comparison of an image with a caption.

    Attributes:
      attributes: Whether each attribute is correct: those that the caption names, `number` and `readable`.
    """

    attributes: dict[str, bool]

    @property
    def correct(self) -> bool:
        """Whether all attributes are correct."""
        return all(self.attributes.values())


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Fractions of correct images and attributes.

    Attributes:
      accuracy: Fraction of correct images.
      n: Number of images.
      interval: 95% Wilson interval of `accuracy`.
      attributes: For each attribute, the fraction of correct images among those whose caption names it. Attributes that
        no caption names are absent.
    """

    accuracy: float
    n: int
    interval: tuple[float, float]
    attributes: dict[str, float]


def read_scenes(images: UInt8["N 256 256 3"]) -> list[Scene | None]:
    """Reads the scene in each image. Unreadable images become None."""
    return [read(image) for image in np.asarray(images)]


def judge(scene: Scene | None, caption: Caption) -> Verdict:
    """Compares the scene in an image with a caption.

    Two objects are compared in the order in which more attributes are correct.

    Args:
      scene: The scene that was read from the image. If None, the image is unreadable.
      caption: The caption.
    """
    named = _named_attributes(caption)
    if scene is None or len(scene.objects) != len(caption.objects):
        return Verdict({**dict.fromkeys(named, False), "number": False, "readable": scene is not None})
    orders = (_compare(scene.background, objects, caption, named) for objects in itertools.permutations(scene.objects))
    best = max(orders, key=lambda attributes: sum(attributes.values()))
    return Verdict({**best, "number": True, "readable": True})


def summarize(verdicts: Sequence[Verdict]) -> Accuracy:
    """Computes the fractions of correct images and attributes.

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
    """Computes the chance level: the accuracy of perfect images with the captions of others.

    Args:
      captions: At least two captions.
      scenes: The scene of each caption.
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
    """Returns whether each named attribute is correct if objects[i] corresponds to the caption's object i."""
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
    """Returns whether an attribute of an object is correct or not named by the caption."""
    return getattr(expected, attribute) in (None, getattr(item, attribute))

"""How often a picture shows what its caption asked for, on captioned shapes.

A picture is read back to a scene from its pixels alone, and held against what its caption names. It is right when all
that the caption names is in it. A picture that cannot be read, or that shows another number of objects than the caption
names, is wrong, and so is every attribute of it.

Attributes of a picture: `shape`, `colour` and `size` (right when they are so for every object of which the caption
names them), `background`, `relation` (where two objects are named with one), `number` (of objects) and `readable`.
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
    """One picture against one caption. `attributes` holds what the caption names, and `number` and `readable`."""

    attributes: dict[str, bool]

    @property
    def right(self) -> bool:
        return all(self.attributes.values())


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares over `n` pictures. `interval` is the 95 % Wilson interval of `accuracy`; an attribute's share is over the
    pictures whose caption names it, and one that no caption names is absent."""

    accuracy: float
    n: int
    interval: tuple[float, float]
    attributes: dict[str, float]


def read_all(pictures: UInt8["N 256 256 3"]) -> list[Scene | None]:
    """What each picture shows; None where it cannot be read."""
    return [read(picture) for picture in np.asarray(pictures)]


def judge(seen: Scene | None, caption: Caption) -> Verdict:
    """Holds what was read from a picture (None: unreadable) against what the caption names.

    Two objects come in no order: they are taken in the order that makes more attributes right.
    """
    named = _named_attributes(caption)
    if seen is None or len(seen.objects) != len(caption.objects):
        return Verdict({**dict.fromkeys(named, False), "number": False, "readable": seen is not None})
    orders = (_compare(seen.background, objects, caption, named) for objects in itertools.permutations(seen.objects))
    best = max(orders, key=lambda attributes: sum(attributes.values()))
    return Verdict({**best, "number": True, "readable": True})


def summarise(verdicts: Sequence[Verdict]) -> Accuracy:
    """The shares of right pictures and of right attributes. Raises ValueError for no verdicts."""
    if not verdicts:
        raise ValueError("verdicts is empty; an accuracy needs at least one picture")
    shares = {}
    for attribute in ATTRIBUTES:
        hits = [verdict.attributes[attribute] for verdict in verdicts if attribute in verdict.attributes]
        if hits:
            shares[attribute] = sum(hits) / len(hits)
    right = sum(verdict.right for verdict in verdicts)
    return Accuracy(right / len(verdicts), len(verdicts), wilson(right, len(verdicts)), shares)


def chance(captions: Sequence[Caption], scenes: Sequence[Scene]) -> Accuracy:
    """What captions score against the scenes of all other captions: the share expected, over every such pair, when a
    perfect picture hangs beside somebody else's caption.

    Args: captions, scenes: as many, scene i being what caption i was written for; at least two.
    """
    pairs = itertools.permutations(range(len(scenes)), 2)
    return summarise([judge(scenes[picture], captions[caption]) for picture, caption in pairs])


def _named_attributes(caption: Caption) -> list[str]:
    of_objects = [
        attribute
        for attribute in OBJECT_ATTRIBUTES
        if any(getattr(item, attribute) is not None for item in caption.objects)
    ]
    return of_objects + [name for name in ("background", "relation") if getattr(caption, name) is not None]


def _compare(background: str, objects: Sequence[Object], caption: Caption, named: Iterable[str]) -> dict[str, bool]:
    """The named attributes, with objects[i] taken to be what the caption calls its object i."""
    right = {}
    for attribute in named:
        if attribute == "background":
            right[attribute] = background == caption.background
        elif attribute == "relation":
            right[attribute] = relation_between(objects[0], objects[1]) == caption.relation
        else:
            pairs = zip(objects, caption.objects, strict=True)
            right[attribute] = all(_has(item, wanted, attribute) for item, wanted in pairs)
    return right


def _has(item: Object, wanted: NamedObject, attribute: str) -> bool:
    """Whether the object is as the caption says; what the caption does not say is always right."""
    return getattr(wanted, attribute) in (None, getattr(item, attribute))

"""Captions of scenes, and what each of them names.

A caption consists of a phrase for each object, a core that joins two of them, and a frame around it. As people do,
captions leave things out: 45% name every attribute (shape, color and size of each object, the background and, for two
objects, their relation), the others leave out one or more. The shape is nearly always named. Colors that have no name
are left out. Some captions of one object are loose: clauses in any order and with any punctuation, among filler words.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from unclip_jax.data.captioned_shapes.free_wordings import FREE_WORDINGS, is_free_wording
from unclip_jax.data.captioned_shapes.scene import INVERSE_RELATION, Scene, is_named, pick
from unclip_jax.data.captioned_shapes.wordings import (
    CLAUSES,
    ENDS,
    FILLERS,
    FRAMES,
    FRAMES_WITH_BACKGROUND,
    JOINTS,
    MARKS,
    RELATION_WORDS,
    SEPARATORS,
    SIDE_WORDS,
    SIZE_WORDS,
)

FULL_SHARE = 0.45
# Probability that an attribute is named in a caption that leaves something out.
KEEP = {"shape": 0.96, "colour": 0.85, "size": 0.4, "background": 0.5, "relation": 0.7}
LOOSE_SHARE = 0.35  # of the training captions of one object


@dataclasses.dataclass(frozen=True)
class NamedObject:
    """The attributes of an object that a caption names; None if it does not name one."""

    shape: str | None
    colour: str | None
    size: str | None


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and what it names. None stands for an attribute that it does not name.

    Attributes:
      text: The caption.
      background: Color of the background.
      objects: The objects in the order of the scene, which may not be that of the text. Sizes are "small" or "large",
        whatever word the text has.
      relation: Relation of objects[0] to objects[1].
    """

    text: str
    background: str | None
    objects: tuple[NamedObject, ...]
    relation: str | None = None

    @property
    def names_everything(self) -> bool:
        """Whether the caption names every attribute of the scene except positions."""
        named = [self.background, *(value for item in self.objects for value in dataclasses.astuple(item))]
        return None not in named and (len(self.objects) == 1 or self.relation is not None)


def captions(scene: Scene, rng: np.random.Generator, count: int) -> list[Caption]:
    """Returns `count` training captions of a scene, each with its own wording; 45% of them name everything."""
    return [_caption(scene, rng) for _ in range(count)]


def _caption(scene: Scene, rng: np.random.Generator) -> Caption:
    named = _choose_named(scene, rng)
    loose = len(named.objects) == 1 and rng.random() < LOOSE_SHARE
    return _compose_loosely(named, rng) if loose else _compose(named, rng)


def full_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Returns a caption in a training wording that names every attribute."""
    return _compose(_everything(scene), rng)


def _everything(scene: Scene) -> Caption:
    named = tuple(NamedObject(item.shape, _word(item.colour), item.size) for item in scene.objects)
    return Caption("", _word(scene.background), named, scene.relation)


def _word(colour: str) -> str | None:
    return colour if is_named(colour) else None


def _choose_named(scene: Scene, rng: np.random.Generator) -> Caption:
    """A caption without a text: the attributes that the next training caption names."""
    everything = _everything(scene)
    if rng.random() < FULL_SHARE:
        return everything

    def keep(attribute: str, value: str | None) -> str | None:
        return value if rng.random() < KEEP[attribute] else None

    while True:
        objects = []
        for item in everything.objects:
            colour = keep("colour", item.colour)
            shape = keep("shape", item.shape) if colour else item.shape  # at least one of the two
            objects.append(NamedObject(shape, colour, keep("size", item.size)))
        background, relation = keep("background", everything.background), keep("relation", scene.relation)
        named = Caption("", background, tuple(objects), relation)
        if not named.names_everything:
            return named


def _compose(named: Caption, rng: np.random.Generator) -> Caption:
    """Adds a text to a caption."""
    draw = rng.random()
    article = "a" if draw < 0.75 else "the" if draw < 0.83 else ""
    phrases = [_object_phrase(item, article, rng) for item in named.objects]
    core = phrases[0] if len(phrases) == 1 else _join(phrases, named.relation, rng)
    frames = FRAMES if named.background is None else FRAMES_WITH_BACKGROUND
    background = named.background or ""
    text = pick(rng, frames).format(it=core, background=background, a=_indefinite(background) if article else "")
    text = " ".join(text.split())  # a missing article leaves two spaces
    if rng.random() < 0.1:
        text += "."
    return dataclasses.replace(named, text=text)


def _compose_loosely(named: Caption, rng: np.random.Generator) -> Caption:
    """Adds a text of loose clauses.

    If that is one of the free wordings, which are reserved for evaluation, an ordinary text is added instead.
    """
    (item,) = named.objects
    size = pick(rng, SIZE_WORDS[item.size]) if item.size else None
    values = {"shape": item.shape or "shape", "colour": item.colour, "size": size, "background": named.background}
    clauses = [pick(rng, CLAUSES[name]).format(value) for name, value in values.items() if value]
    background = clauses[-1] if named.background else None
    for _ in range(int(rng.integers(4))):
        clauses.append(pick(rng, FILLERS))
    clauses = [clauses[index] for index in rng.permutation(len(clauses))]
    text, before = clauses[0], clauses[0]
    for clause in clauses[1:]:
        # Without a mark "on purple circle" would name a purple circle.
        text += pick(rng, MARKS if background in (before, clause) else SEPARATORS) + clause
        before = clause
    text += pick(rng, ENDS)
    return _compose(named, rng) if is_free_wording(text) else dataclasses.replace(named, text=text)


def _object_phrase(item: NamedObject, article: str, rng: np.random.Generator) -> str:
    """Such as "a small red circle", sometimes "a red small circle" or "a circle that is small and red"."""
    size = pick(rng, SIZE_WORDS[item.size]) if item.size else None
    adjectives = [word for word in (size, item.colour) if word]
    draw = rng.random()
    if draw < 0.08:
        adjectives.reverse()
    noun = item.shape or "shape"
    if draw > 0.92 and adjectives:
        words = f"{noun} that is {' and '.join(adjectives)}"
    else:
        words = " ".join([*adjectives, noun])
    return f"{_indefinite(words) if article == 'a' else article} {words}".strip()


def _join(phrases: list[str], relation: str | None, rng: np.random.Generator) -> str:
    """Joins two object phrases, in either order."""
    if relation is None:
        order = (0, 1) if rng.random() < 0.5 else (1, 0)
        return pick(rng, JOINTS).format(phrases[order[0]], phrases[order[1]])
    if rng.random() < 0.4:  # start from the second object
        phrases, relation = phrases[::-1], INVERSE_RELATION[relation]
    if rng.random() < 0.2:
        sides = SIDE_WORDS[relation]
        return f"{phrases[0]} {sides[0]} and {phrases[1]} {sides[1]}"
    return f"{phrases[0]} {pick(rng, RELATION_WORDS[relation])} {phrases[1]}"


def _indefinite(words: str) -> str:
    return "an" if words.startswith("orange") else "a"


def free_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Returns a caption in a free wording, which names one to three attributes.

    Raises:
      ValueError: For a scene of two objects.
    """
    if len(scene.objects) != 1:
        raise ValueError(f"scene must have one object for a free wording, got {len(scene.objects)}.")
    wording, attributes = FREE_WORDINGS[int(rng.integers(len(FREE_WORDINGS)))]
    item = scene.objects[0]
    values = {"shape": item.shape, "colour": item.colour, "size": item.size, "background": scene.background}
    forms: tuple[Callable[[str], str], ...] = (str.lower, str.capitalize, str.upper)
    text = wording.format(**{form(name): form(value) for name, value in values.items() for form in forms})
    named = {name: value if name in attributes else None for name, value in values.items()}
    return Caption(text, named["background"], (NamedObject(named["shape"], named["colour"], named["size"]),))

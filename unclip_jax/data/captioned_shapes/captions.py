"""Captions of scenes, with the attributes that they name.

A caption consists of a phrase for each object, a core that joins two phrases, and a frame around it. 45% of the
captions name every attribute: shape, color and size of each object, the background and, for two objects, their
relation. The others omit one or more attributes, but rarely the shape. Colors without a name are omitted. Some captions
of one object are loose: their clauses are in random order, separated by random punctuation and filler words.
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

FULL_SHARE = 0.45  # fraction of the training captions that name every attribute
# Probability that an attribute is named in one of the other captions.
KEEP = {"shape": 0.96, "colour": 0.85, "size": 0.4, "background": 0.5, "relation": 0.7}
LOOSE_SHARE = 0.35  # fraction of the training captions of one object that are loose


@dataclasses.dataclass(frozen=True)
class NamedObject:
    """The attributes of an object that a caption names. None means that it does not name one."""

    shape: str | None
    colour: str | None
    size: str | None


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and the attributes that it names. None means that it does not name one.

    Attributes:
      text: The caption.
      background: Color of the background.
      objects: The objects in the order of the scene. The text may name them in the other order. Sizes are "small" or
        "large" even if the text contains a synonym.
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
    """Samples training captions of a scene. Each names every attribute with a probability of 45%.

    Args:
      scene: The scene.
      rng: Generator of all random choices.
      count: Number of captions.
    """
    return [_caption(scene, rng) for _ in range(count)]


def _caption(scene: Scene, rng: np.random.Generator) -> Caption:
    named = _choose_named(scene, rng)
    loose = len(named.objects) == 1 and rng.random() < LOOSE_SHARE
    return _compose_loosely(named, rng) if loose else _compose(named, rng)


def full_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Samples a caption that names every attribute, in a wording that occurs in training captions."""
    return _compose(_everything(scene), rng)


def _everything(scene: Scene) -> Caption:
    named = tuple(NamedObject(item.shape, _word(item.colour), item.size) for item in scene.objects)
    return Caption("", _word(scene.background), named, scene.relation)


def _word(color: str) -> str | None:
    return color if is_named(color) else None


def _choose_named(scene: Scene, rng: np.random.Generator) -> Caption:
    """Samples the attributes that a training caption names. The text is still empty."""
    everything = _everything(scene)
    if rng.random() < FULL_SHARE:
        return everything

    def keep(attribute: str, value: str | None) -> str | None:
        return value if rng.random() < KEEP[attribute] else None

    while True:
        objects = []
        for item in everything.objects:
            color = keep("colour", item.colour)
            shape = keep("shape", item.shape) if color else item.shape  # at least one of the two
            objects.append(NamedObject(shape, color, keep("size", item.size)))
        background, relation = keep("background", everything.background), keep("relation", scene.relation)
        named = Caption("", background, tuple(objects), relation)
        if not named.names_everything:
            return named


def _compose(named: Caption, rng: np.random.Generator) -> Caption:
    """Adds a text that names the attributes of a caption."""
    draw = rng.random()
    article = "a" if draw < 0.75 else "the" if draw < 0.83 else ""
    phrases = [_object_phrase(item, article, rng) for item in named.objects]
    core = phrases[0] if len(phrases) == 1 else _join(phrases, named.relation, rng)
    frames = FRAMES if named.background is None else FRAMES_WITH_BACKGROUND
    background = named.background or ""
    text = pick(rng, frames).format(it=core, background=background, a=_indefinite(background) if article else "")
    text = " ".join(text.split())  # remove the double space that a missing article leaves
    if rng.random() < 0.1:
        text += "."
    return dataclasses.replace(named, text=text)


def _compose_loosely(named: Caption, rng: np.random.Generator) -> Caption:
    """Adds a text of loose clauses.

    If it is one of the free wordings, which are reserved for evaluation, a regular text is added instead.
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
        # Without punctuation, "on purple circle" would name a purple circle.
        text += pick(rng, MARKS if background in (before, clause) else SEPARATORS) + clause
        before = clause
    text += pick(rng, ENDS)
    return _compose(named, rng) if is_free_wording(text) else dataclasses.replace(named, text=text)


def _object_phrase(item: NamedObject, article: str, rng: np.random.Generator) -> str:
    """Returns a phrase such as "a small red circle" or "a circle that is small and red"."""
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
    """Samples a caption in a free wording. It names one to three attributes.

    Raises:
      ValueError: If the scene does not have exactly one object.
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

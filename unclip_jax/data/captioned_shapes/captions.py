"""Puts scenes into words, and remembers what was said.

A caption is put together from a phrase for each object, a core that joins two of them, and a frame around it. As people
do, captions leave things out: 45 % name every attribute (shape, colour and size of each object, the background and, for
two objects, their relation), the others leave out one or more; the shape is nearly always named. Colours that no word
stands for go unsaid. Some captions of one object are loose: what is said comes in any order and with any marks, among
words that say nothing.
"""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

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
)

FULL_SHARE = 0.45
# How often each attribute is named in a caption that leaves something out.
KEEP = {"shape": 0.96, "colour": 0.85, "size": 0.4, "background": 0.5, "relation": 0.7}

SIZE_WORDS = {"small": ("small", "small", "little"), "large": ("large", "large", "big")}
RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
# How the first and the second object of a relation are placed without a word between them.
SIDE_WORDS = {
    "left of": ("on the left", "on the right"),
    "right of": ("on the right", "on the left"),
    "above": ("at the top", "at the bottom"),
    "below": ("at the bottom", "at the top"),
}
JOINTS = ("{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} with {1}", "{0}, {1}")  # name no relation
FRAMES = ("{it}", "{it}", "{it}", "a picture of {it}", "an image of {it}", "a drawing of {it}", "there is {it}")
FRAMES_WITH_BACKGROUND = (
    "{it} on {a} {background} background",
    "{it} on {a} {background} background",
    "{it} on {a} {background} background",
    "{it} against {a} {background} background",
    "{it} in front of {a} {background} background",
    "{it} with {a} {background} background",
    "{it} on {background}",
    "on {a} {background} background, {it}",
    "{background} background with {it}",
    "a picture of {it} on {a} {background} background",
    "an image of {it} on {background}",
    "a drawing of {it} on {a} {background} background",
    "there is {it} on {a} {background} background",
    "{a} {background} picture with {it} in it",
)

# A loose caption is a row of such clauses, in any order, with words between them that say nothing of the picture.
LOOSE_SHARE = 0.35  # of the training captions of one object
CLAUSES = {
    "shape": ("{}", "{}", "a {}", "the {}", "shape {}", "this is a {}", "{} shape"),
    "colour": ("{}", "{}", "{}", "in {}", "it is {}", "painted {}", "that looks {}"),
    "size": ("{}", "{}", "{}", "it is {}", "size {}", "quite {}"),
    "background": ("on {}", "background {}", "{} background", "{} in the background", "backdrop {}", "{} behind it"),
}
SEPARATORS = (" ", " ", " ", ", ", ", ", ". ", "; ", ": ", " - ", " / ", "! ")
MARKS = tuple(separator for separator in SEPARATORS if separator.strip())
ENDS = ("", "", "", ".", "!", "?", "...")
FILLERS = (
    "show me you see we need like make could would my your this that some here now then so and for kids with only "
    "really very nice simple plain clean flat new single photo sketch icon logo art paint thanks hello today maybe"
).split()


@dataclasses.dataclass(frozen=True)
class NamedObject:
    """What a caption says of one object; None: not said."""

    shape: str | None
    colour: str | None
    size: str | None


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and what it says. `objects` are in the scene's order, whatever the order in the text; `relation` is of
    objects[0] to objects[1]. None: not said. Sizes are "small" and "large", whatever word stood for them."""

    text: str
    background: str | None
    objects: tuple[NamedObject, ...]
    relation: str | None = None

    @property
    def names_everything(self) -> bool:
        """Whether a reader of the caption knows all that a scene's maker knew, positions excepted."""
        said = [self.background, *(value for item in self.objects for value in dataclasses.astuple(item))]
        return None not in said and (len(self.objects) == 1 or self.relation is not None)


def captions(scene: Scene, rng: np.random.Generator, count: int) -> list[Caption]:
    """`count` captions for training, worded anew each time; 45 % of them name everything."""

    def worded() -> Caption:
        named = _choose_named(scene, rng)
        loose = len(named.objects) == 1 and rng.random() < LOOSE_SHARE
        return _compose_loosely(named, rng) if loose else _compose(named, rng)

    return [worded() for _ in range(count)]


def wrong_captions(
    scene: Scene, rng: np.random.Generator, count: int, *, change: np.random.Generator
) -> list[Caption]:
    """For each of the `count` captions that `captions` makes with a generator in the state of `rng`, one in the same
    words but for what `change` draws: an attribute that the caption names is another, the objects' shapes or colours
    are exchanged, or their relation is another. None of them is true of the scene, and none says a held-out pair."""
    state = rng.bit_generator.state
    wrong = []
    for number, caption in enumerate(captions(scene, rng, count)):
        while True:
            again = np.random.default_rng()
            again.bit_generator.state = state
            said = captions(_changed(scene, caption, change), again, count)[number]
            if said != caption and not describes(said, scene):
                wrong.append(said)
                break
    return wrong


def describes(caption: Caption, scene: Scene) -> bool:
    """Whether all that the caption says is true of the scene, its objects told in either order."""
    if caption.background not in (None, scene.background) or len(caption.objects) != len(scene.objects):
        return False

    def fits(said: NamedObject, item: Object) -> bool:
        return all(value in (None, getattr(item, name)) for name, value in dataclasses.asdict(said).items())

    if all(map(fits, caption.objects, scene.objects)) and caption.relation in (None, scene.relation):
        return True
    turned = len(scene.objects) == 2 and caption.relation in (None, INVERSE_RELATION[scene.relation])
    return turned and all(map(fits, caption.objects, scene.objects[::-1]))


def _changed(scene: Scene, caption: Caption, rng: np.random.Generator) -> Scene:
    """The scene with one thing different that the caption may name; where there are two objects mostly their relation,
    or which of them has which shape or colour: that a CLIP learns last."""
    first, *second = scene.objects
    draw = rng.random() if second else 1.0
    if draw < 0.45:
        return dataclasses.replace(scene, relation=_another(RELATIONS, scene.relation, rng))
    if draw < 0.85:
        name = _pick(rng, ("shape", "colour"))
        objects = (
            dataclasses.replace(first, **{name: getattr(second[0], name)}),
            dataclasses.replace(second[0], **{name: getattr(first, name)}),
        )
    else:
        place = int(rng.integers(len(scene.objects)))
        name = _pick(rng, ("shape", "shape", "colour", "size", "background"))
        if name == "background":
            return dataclasses.replace(scene, background=_another_colour(scene.background, rng))
        item = scene.objects[place]
        value = {
            "shape": lambda: _another(SHAPES, item.shape, rng),
            "colour": lambda: _another_colour(item.colour, rng),
            "size": lambda: _another(tuple(SIZES), item.size, rng),
        }[name]()
        objects = list(scene.objects)
        objects[place] = dataclasses.replace(item, **{name: value})
    if any((item.shape, item.colour) in HELD_OUT for item in objects):
        return scene
    return dataclasses.replace(scene, objects=tuple(objects))


def _another(values: tuple[str, ...], value: str, rng: np.random.Generator) -> str:
    return _pick(rng, tuple(other for other in values if other != value))


def _another_colour(colour: str, rng: np.random.Generator) -> str:
    """Another name; a colour without one stays."""
    return _another(tuple(COLOURS), colour, rng) if is_named(colour) else colour


def full_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """A caption in a training wording that names every attribute."""
    return _compose(_everything(scene), rng)


def _everything(scene: Scene) -> Caption:
    named = tuple(NamedObject(item.shape, _word(item.colour), item.size) for item in scene.objects)
    return Caption("", _word(scene.background), named, scene.relation)


def _word(colour: str) -> str | None:
    return colour if is_named(colour) else None


def _choose_named(scene: Scene, rng: np.random.Generator) -> Caption:
    """What the next training caption will say, its text still empty."""
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
    """The same content with a text."""
    draw = rng.random()
    article = "a" if draw < 0.75 else "the" if draw < 0.83 else ""
    phrases = [_object_phrase(item, article, rng) for item in named.objects]
    core = phrases[0] if len(phrases) == 1 else _join(phrases, named.relation, rng)
    frames = FRAMES if named.background is None else FRAMES_WITH_BACKGROUND
    background = named.background or ""
    text = _pick(rng, frames).format(it=core, background=background, a=_indefinite(background) if article else "")
    text = " ".join(text.split())  # without an article two spaces are left
    if rng.random() < 0.1:
        text += "."
    return dataclasses.replace(named, text=text)


def _compose_loosely(named: Caption, rng: np.random.Generator) -> Caption:
    """The same content as a row of clauses, or in a tidy wording where the row would be one of the free wordings, which
    are kept for measuring."""
    (item,) = named.objects
    size = _pick(rng, SIZE_WORDS[item.size]) if item.size else None
    said = {"shape": item.shape or "shape", "colour": item.colour, "size": size, "background": named.background}
    clauses = [_pick(rng, CLAUSES[name]).format(value) for name, value in said.items() if value]
    background = clauses[-1] if named.background else None
    for _ in range(int(rng.integers(4))):
        clauses.append(_pick(rng, FILLERS))
    clauses = [clauses[place] for place in rng.permutation(len(clauses))]
    text, before = clauses[0], clauses[0]
    for clause in clauses[1:]:
        # Without a mark "on purple circle" would name a purple circle.
        text += _pick(rng, MARKS if background in (before, clause) else SEPARATORS) + clause
        before = clause
    text += _pick(rng, ENDS)
    return _compose(named, rng) if is_free_wording(text) else dataclasses.replace(named, text=text)


def _object_phrase(item: NamedObject, article: str, rng: np.random.Generator) -> str:
    """"a small red circle", mostly; sometimes "a red small circle" or "a circle that is small and red"."""
    size = _pick(rng, SIZE_WORDS[item.size]) if item.size else None
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
    """Two object phrases in one, in either order."""
    if relation is None:
        order = (0, 1) if rng.random() < 0.5 else (1, 0)
        return _pick(rng, JOINTS).format(phrases[order[0]], phrases[order[1]])
    if rng.random() < 0.4:  # told from the second object
        phrases, relation = phrases[::-1], INVERSE_RELATION[relation]
    if rng.random() < 0.2:
        sides = SIDE_WORDS[relation]
        return f"{phrases[0]} {sides[0]} and {phrases[1]} {sides[1]}"
    return f"{phrases[0]} {_pick(rng, RELATION_WORDS[relation])} {phrases[1]}"


def _indefinite(words: str) -> str:
    return "an" if words.startswith("orange") else "a"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def vocabulary() -> frozenset[str]:
    """Every word that a training caption can hold."""
    texts = [*COLOURS, *SHAPES, *JOINTS, *FRAMES, *FRAMES_WITH_BACKGROUND, "a an the that is and shape"]
    texts += [*FILLERS, *(clause for clauses in CLAUSES.values() for clause in clauses)]
    for group in (SIZE_WORDS, RELATION_WORDS, SIDE_WORDS):
        texts += [text for words in group.values() for text in words]
    words = " ".join(texts).replace(",", " ").split()
    return frozenset(word for word in words if not word.startswith("{"))


# Wordings that no training caption has, each with the attributes that it names. {Colour} is capitalised, {COLOUR} is in
# capitals; `size` is said as "small" or "large".
FREE_WORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("{shape}, {colour}", ("shape", "colour")),
    ("{Shape}: {colour}, {size}", ("shape", "colour", "size")),
    ("{SIZE} {COLOUR} {SHAPE}", ("shape", "colour", "size")),
    ("{colour} {shape}!", ("shape", "colour")),
    ("{Background} background. {Colour} {shape}.", ("shape", "colour", "background")),
    ("{shape} {colour} {size}", ("shape", "colour", "size")),
    ("just a {shape}", ("shape",)),
    ("The {shape} is {colour}", ("shape", "colour")),
    ("the {shape} is {size} and the background is {background}", ("shape", "size", "background")),
    ("{Size}, {colour}: a {shape}", ("shape", "colour", "size")),
    ("on {background}: {shape}, {colour}", ("shape", "colour", "background")),
    ("{shape} ({colour})", ("shape", "colour")),
    ("{shape}; background {background}", ("shape", "background")),
    ("Background: {background}. Shape: {shape}. Colour: {colour}.", ("shape", "colour", "background")),
    ("one {size} {shape}, {colour}", ("shape", "colour", "size")),
    ("please draw {shape} in {colour}", ("shape", "colour")),
    ("a {shape}, and it is {size}!", ("shape", "size")),
    ("{COLOUR}! {SHAPE}!", ("shape", "colour")),
    ("{background} everywhere, but {shape} is {colour}", ("shape", "colour", "background")),
    ("i want a {size} {shape}", ("shape", "size")),
)


def is_free_wording(text: str) -> bool:
    """Whether a text is one of the free wordings, filled in with whatever words and in whatever case."""
    return _FREE_WORDING.fullmatch(text.lower()) is not None


def _pattern(wording: str) -> str:
    """The regular expression of a wording whose fields hold any word for their attribute."""
    sizes = [word for words in SIZE_WORDS.values() for word in words]
    words = {"shape": SHAPES, "size": sizes, "colour": COLOURS, "background": COLOURS}
    return re.escape(wording.lower()).replace(r"\{", "{").replace(r"\}", "}").format(
        **{name: f"({'|'.join(known)})" for name, known in words.items()}
    )


_FREE_WORDING = re.compile("|".join(_pattern(wording) for wording, _ in FREE_WORDINGS))


def free_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """A one-object scene in a wording that training never makes, naming one to three attributes. Raises ValueError for
    a scene of two objects."""
    if len(scene.objects) != 1:
        raise ValueError(f"scene holds {len(scene.objects)} objects; free wordings are of one")
    wording, attributes = FREE_WORDINGS[int(rng.integers(len(FREE_WORDINGS)))]
    item = scene.objects[0]
    values = {"shape": item.shape, "colour": item.colour, "size": item.size, "background": scene.background}
    forms: tuple[Callable[[str], str], ...] = (str.lower, str.capitalize, str.upper)
    text = wording.format(**{form(name): form(value) for name, value in values.items() for form in forms})
    said = {name: value if name in attributes else None for name, value in values.items()}
    return Caption(text, said["background"], (NamedObject(said["shape"], said["colour"], said["size"]),))

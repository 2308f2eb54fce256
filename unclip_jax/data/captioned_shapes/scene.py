"""What a captioned-shapes picture shows: a background and one or two flat objects.

Coordinates are pixels of the 256 x 256 picture, x to the right and y downwards, pixel (0, 0) covering [0, 1) x [0, 1).
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

IMAGE_SIZE = 256

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
# At least 110 apart in RGB, so that a colour that is off by up to 45 is still nearest to its own name.
COLOURS = {
    "red": (220, 30, 40),
    "orange": (255, 130, 0),
    "yellow": (255, 235, 40),
    "green": (40, 165, 70),
    "blue": (30, 80, 225),
    "purple": (145, 40, 175),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
# Ranges of the half-extent. Below 28 px shapes cannot be told apart once the picture is shrunk to 16 px.
SIZES = {"small": (28.0, 36.0), "large": (44.0, 60.0)}
# Two large objects of more than 52 px do not always fit beside each other.
LARGE_BESIDE_ANOTHER = (44.0, 52.0)
RELATIONS = ("left of", "right of", "above", "below")
INVERSE_RELATION = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# Pairs that no training stage ever sees: every shape once, six different colours.
HELD_OUT = frozenset(
    {
        ("circle", "purple"),
        ("square", "orange"),
        ("triangle", "white"),
        ("star", "blue"),
        ("ring", "green"),
        ("cross", "red"),
    }
)

TWO_OBJECTS_SHARE = 0.4
CONTRAST = 110.0  # between an object and its background where colours are drawn from all of RGB
MAX_ROTATION = 6.0  # degrees, either way
MARGIN = 6.0  # pixels of background between an object and the frame
GAP = 16.0  # pixels of background between two objects: one pixel at 16 px
MAX_SLANT = 0.5  # two objects differ by at most this much across the relation's axis, as a share of along it


@dataclasses.dataclass(frozen=True)
class Object:
    """One shape. `colour` is a name of COLOURS, or "#rrggbb", which no word stands for; `half_extent` is half the width
    of the shape before it is turned by `rotation` degrees; (`x`, `y`) is the middle of its box."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    half_extent: float
    rotation: float = 0.0


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture's content. `background` is a colour as an object's; `relation` says how objects[0] stands to
    objects[1]; None when there is one object."""

    background: str
    objects: tuple[Object, ...]
    relation: str | None = None

    def to_json(self) -> str:
        """The scene as one line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Scene":
        """The inverse of `to_json`, to the last bit."""
        fields: dict[str, Any] = json.loads(text)
        return cls(fields["background"], tuple(Object(**item) for item in fields["objects"]), fields["relation"])


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a name of COLOURS or of "#rrggbb"."""
    return COLOURS[colour] if is_named(colour) else tuple(bytes.fromhex(colour[1:]))


def is_named(colour: str) -> bool:
    """Whether a word stands for the colour."""
    return not colour.startswith("#")


def nearest_name(colour: str) -> str:
    """The name of COLOURS that is nearest in RGB."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], rgb(colour)))


def reach(half_extent: float, rotation: float) -> float:
    """Half the side of a box that holds a turned object of any shape."""
    angle = math.radians(rotation)
    return half_extent * (abs(math.cos(angle)) + abs(math.sin(angle)))


def relation_between(first: Object, second: Object) -> str:
    """How `first` stands to `second`, by their middles: the axis on which they differ more decides."""
    across, down = second.x - first.x, second.y - first.y
    if abs(across) >= abs(down):
        return "left of" if across > 0 else "right of"
    return "above" if down > 0 else "below"


def size_of(half_extent: float) -> str:
    """The size word for a measured half-extent: the middle between the largest small and the smallest large decides."""
    return "small" if half_extent < (SIZES["small"][1] + SIZES["large"][0]) / 2 else "large"


def sample_scene(rng: np.random.Generator, *, num_objects: int | None = None, held_out: bool = False) -> Scene:
    """Draws a scene.

    `num_objects` None: one in 60 % of scenes, two in 40 %. `held_out` False: no object is of a held-out pair;
    True: every object is, and `num_objects` None means one.
    """
    if num_objects is None:
        num_objects = 2 if not held_out and rng.random() < TWO_OBJECTS_SHARE else 1
    if num_objects not in (1, 2):
        raise ValueError(f"num_objects is {num_objects!r}; a scene holds 1 or 2 objects")
    pairs = [_sample_pair(rng, held_out) for _ in range(num_objects)]
    while len(set(pairs)) < num_objects:  # of two equal objects no caption could say which is where
        pairs[-1] = _sample_pair(rng, held_out)
    background = pick(rng, [name for name in COLOURS if name not in {colour for _, colour in pairs}])
    bodies = [_sample_body(rng, large=SIZES["large"] if num_objects == 1 else LARGE_BESIDE_ANOTHER) for _ in pairs]
    reaches = [reach(half_extent, rotation) for _, half_extent, rotation in bodies]
    if num_objects == 1:
        relation, places = None, [(_free(rng, reaches[0]), _free(rng, reaches[0]))]
    else:
        relation = pick(rng, RELATIONS)
        places = _sample_places(rng, relation, reaches)
    objects = tuple(
        Object(shape, colour, size, round(x, 3), round(y, 3), half_extent, rotation)
        for (shape, colour), (size, half_extent, rotation), (x, y) in zip(pairs, bodies, places, strict=True)
    )
    return Scene(background, objects, relation)


def recolour(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene in colours that no word stands for, all of RGB alike, each object CONTRAST or more from the background.

    The colour of a shape is never one that is nearest to the name which is held out with it.
    """
    background = _sample_rgb(rng)
    objects = []
    for item in scene.objects:
        colour = _sample_rgb(rng)
        while math.dist(rgb(colour), rgb(background)) < CONTRAST or (item.shape, nearest_name(colour)) in HELD_OUT:
            colour = _sample_rgb(rng)
        objects.append(dataclasses.replace(item, colour=colour))
    return dataclasses.replace(scene, background=background, objects=tuple(objects))


def _sample_rgb(rng: np.random.Generator) -> str:
    return "#" + bytes(rng.integers(0, 256, 3, dtype=np.uint8)).hex()


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Returns one of `options`, each with the same probability. (`rng.choice` would return a NumPy scalar.)"""
    return options[int(rng.integers(len(options)))]


def _sample_pair(rng: np.random.Generator, held_out: bool) -> tuple[str, str]:
    """A (shape, colour) pair, all pairs of its kind alike."""
    while True:
        pair = (pick(rng, SHAPES), pick(rng, tuple(COLOURS)))
        if (pair in HELD_OUT) == held_out:
            return pair


def _sample_body(rng: np.random.Generator, large: tuple[float, float]) -> tuple[str, float, float]:
    """Size word, half-extent and rotation; rounded, so that JSON holds them exactly."""
    size = pick(rng, tuple(SIZES))
    low, high = large if size == "large" else SIZES[size]
    return size, round(float(rng.uniform(low, high)), 3), round(float(rng.uniform(-MAX_ROTATION, MAX_ROTATION)), 3)


def _free(rng: np.random.Generator, half: float) -> float:
    """A coordinate at which a box of half side `half` stays within the frame's margin."""
    return float(rng.uniform(MARGIN + half, IMAGE_SIZE - MARGIN - half))


def _sample_places(rng: np.random.Generator, relation: str, reaches: list[float]) -> list[tuple[float, float]]:
    """Middles of two objects so that objects[0] is clearly `relation` objects[1] and the boxes keep the gap."""
    first, second = (0, 1) if relation in ("left of", "above") else (1, 0)
    slack = IMAGE_SIZE - 2 * MARGIN - GAP - 2 * sum(reaches)
    before, until = np.sort(rng.uniform(0.0, slack, 2))
    along, across = [0.0, 0.0], [0.0, 0.0]
    along[first] = MARGIN + reaches[first] + float(before)
    along[second] = along[first] + reaches[first] + GAP + reaches[second] + float(until - before)
    across[first] = _free(rng, reaches[first])
    slant = MAX_SLANT * (along[second] - along[first])
    low = max(MARGIN + reaches[second], across[first] - slant)
    high = min(IMAGE_SIZE - MARGIN - reaches[second], across[first] + slant)
    across[second] = float(rng.uniform(low, high))
    if relation in ("left of", "right of"):
        return list(zip(along, across, strict=True))
    return list(zip(across, along, strict=True))

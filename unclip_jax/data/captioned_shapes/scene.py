"""Content of a captioned-shapes image: a background and one or two flat objects.

Coordinates are in pixels of the 256 x 256 image, x to the right and y downwards. Pixel (0, 0) covers [0, 1) x [0, 1).
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

IMAGE_SIZE = 256

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
# RGB. At least 110 apart, so that a color with an error of up to 45 is still closest to its own name.
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
# Ranges of the half-extent in pixels. Below 28 px, shapes cannot be distinguished in images downscaled to 16 px.
SIZES = {"small": (28.0, 36.0), "large": (44.0, 60.0)}
# Range for large objects in scenes with two objects, because two objects of more than 52 px do not always fit.
LARGE_BESIDE_ANOTHER = (44.0, 52.0)
RELATIONS = ("left of", "right of", "above", "below")
INVERSE_RELATION = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

# (shape, color) pairs that occur in no training data. Each shape occurs once, with six different colors.
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

TWO_OBJECTS_SHARE = 0.4  # probability that a scene has two objects
CONTRAST = 110.0  # minimum RGB distance between an object and its background in recolored scenes
MAX_ROTATION = 6.0  # degrees, in both directions
MARGIN = 6.0  # minimum distance in pixels between an object and the border of the image
GAP = 16.0  # minimum distance in pixels between two objects; one pixel of a 16 px image
MAX_SLANT = 0.5  # maximum offset of two objects across the axis of their relation, as a fraction of the offset along it


@dataclasses.dataclass(frozen=True)
class Object:
    """An object of a scene.

    Attributes:
      shape: One of SHAPES.
      colour: One of COLOURS, or "#rrggbb" for a color without a name.
      size: One of SIZES.
      x: Horizontal center of the bounding box in pixels.
      y: Vertical center of the bounding box in pixels.
      half_extent: Half the width of the unrotated shape in pixels.
      rotation: Clockwise rotation in degrees.
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float
    half_extent: float
    rotation: float = 0.0


@dataclasses.dataclass(frozen=True)
class Scene:
    """The content of an image.

    Attributes:
      background: Color of the background, like `Object.colour`.
      objects: One or two objects.
      relation: Relation of objects[0] to objects[1], one of RELATIONS. If None, there is only one object.
    """

    background: str
    objects: tuple[Object, ...]
    relation: str | None = None

    def to_json(self) -> str:
        """Returns the scene as one line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Scene":
        """Returns the scene from the output of `to_json`. The round trip is exact."""
        fields: dict[str, Any] = json.loads(text)
        return cls(fields["background"], tuple(Object(**item) for item in fields["objects"]), fields["relation"])


def rgb(color: str) -> tuple[int, int, int]:
    """Returns the red, green and blue values, 0 to 255, of a color in COLOURS or of "#rrggbb"."""
    return COLOURS[color] if is_named(color) else tuple(bytes.fromhex(color[1:]))


def is_named(color: str) -> bool:
    """Returns whether a color has a name in COLOURS, which captions can contain."""
    return not color.startswith("#")


def nearest_name(color: str) -> str:
    """Returns the name in COLOURS that is closest in RGB."""
    return min(COLOURS, key=lambda name: math.dist(COLOURS[name], rgb(color)))


def reach(half_extent: float, rotation: float) -> float:
    """Returns half the side of a box, in pixels, that contains an object of any shape.

    Args:
      half_extent: Half the width of the unrotated object in pixels.
      rotation: Rotation in degrees.
    """
    angle = math.radians(rotation)
    return half_extent * (abs(math.cos(angle)) + abs(math.sin(angle)))


def relation_between(first: Object, second: Object) -> str:
    """Returns the relation between two objects along the axis on which their centers differ more.

    Args:
      first: The subject of the relation: "left of" means that `first` is left of `second`.
      second: The other object.
    """
    right, down = second.x - first.x, second.y - first.y
    if abs(right) >= abs(down):
        return "left of" if right > 0 else "right of"
    return "above" if down > 0 else "below"


def size_of(half_extent: float) -> str:
    """Returns "small" or "large" for a half-extent. The threshold is midway between the two ranges."""
    return "small" if half_extent < (SIZES["small"][1] + SIZES["large"][0]) / 2 else "large"


def sample_scene(rng: np.random.Generator, *, num_objects: int | None = None, held_out: bool = False) -> Scene:
    """Samples a random scene.

    Args:
      rng: Generator of all random choices.
      num_objects: Number of objects, 1 or 2. If None, 60% of the scenes have one object and 40% have two; held-out
        scenes always have one.
      held_out: Whether every object is a held-out (shape, color) pair. If False, no object is.

    Raises:
      ValueError: If `num_objects` is not 1 or 2.
    """
    if num_objects is None:
        num_objects = 2 if not held_out and rng.random() < TWO_OBJECTS_SHARE else 1
    if num_objects not in (1, 2):
        raise ValueError(f"num_objects must be 1 or 2, got {num_objects!r}.")
    pairs = [_sample_pair(rng, held_out) for _ in range(num_objects)]
    while len(set(pairs)) < num_objects:  # no caption could distinguish two equal objects
        pairs[-1] = _sample_pair(rng, held_out)
    background = pick(rng, [name for name in COLOURS if name not in {color for _, color in pairs}])
    large = SIZES["large"] if num_objects == 1 else LARGE_BESIDE_ANOTHER
    sizes = [_sample_size(rng, large) for _ in pairs]
    reaches = [reach(half_extent, rotation) for _, half_extent, rotation in sizes]
    if num_objects == 1:
        relation, centers = None, [(_sample_coordinate(rng, reaches[0]), _sample_coordinate(rng, reaches[0]))]
    else:
        relation = pick(rng, RELATIONS)
        centers = _sample_centers(rng, relation, reaches)
    objects = tuple(
        Object(shape, color, size, round(x, 3), round(y, 3), half_extent, rotation)
        for (shape, color), (size, half_extent, rotation), (x, y) in zip(pairs, sizes, centers, strict=True)
    )
    return Scene(background, objects, relation)


def recolour(scene: Scene, rng: np.random.Generator) -> Scene:
    """Replaces the colors of a scene with unnamed colors, sampled uniformly from RGB.

    Each object differs from the background by at least CONTRAST. No object has a color whose nearest name forms a
    held-out pair with its shape.
    """
    background = _sample_rgb(rng)
    objects = []
    for item in scene.objects:
        color = _sample_rgb(rng)
        while math.dist(rgb(color), rgb(background)) < CONTRAST or (item.shape, nearest_name(color)) in HELD_OUT:
            color = _sample_rgb(rng)
        objects.append(dataclasses.replace(item, colour=color))
    return dataclasses.replace(scene, background=background, objects=tuple(objects))


def _sample_rgb(rng: np.random.Generator) -> str:
    return "#" + bytes(rng.integers(0, 256, 3, dtype=np.uint8)).hex()


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Samples one of `options` uniformly. `rng.choice` would return a NumPy scalar."""
    return options[int(rng.integers(len(options)))]


def _sample_pair(rng: np.random.Generator, held_out: bool) -> tuple[str, str]:
    """Samples a (shape, color) pair, uniformly from the held-out pairs or from all others."""
    while True:
        pair = (pick(rng, SHAPES), pick(rng, tuple(COLOURS)))
        if (pair in HELD_OUT) == held_out:
            return pair


def _sample_size(rng: np.random.Generator, large: tuple[float, float]) -> tuple[str, float, float]:
    """Samples a size, half-extent and rotation, rounded to three decimals."""
    size = pick(rng, tuple(SIZES))
    low, high = large if size == "large" else SIZES[size]
    return size, round(float(rng.uniform(low, high)), 3), round(float(rng.uniform(-MAX_ROTATION, MAX_ROTATION)), 3)


def _sample_coordinate(rng: np.random.Generator, half: float) -> float:
    """Samples the center of an interval of length 2 * `half` that keeps the margin at both ends."""
    return float(rng.uniform(MARGIN + half, IMAGE_SIZE - MARGIN - half))


def _sample_centers(rng: np.random.Generator, relation: str, reaches: list[float]) -> list[tuple[float, float]]:
    """Samples the centers of two objects such that the relation is clear and the boxes keep the gap."""
    first, second = (0, 1) if relation in ("left of", "above") else (1, 0)
    slack = IMAGE_SIZE - 2 * MARGIN - GAP - 2 * sum(reaches)
    before, until = np.sort(rng.uniform(0.0, slack, 2))
    along, across = [0.0, 0.0], [0.0, 0.0]
    along[first] = MARGIN + reaches[first] + float(before)
    along[second] = along[first] + reaches[first] + GAP + reaches[second] + float(until - before)
    across[first] = _sample_coordinate(rng, reaches[first])
    slant = MAX_SLANT * (along[second] - along[first])
    low = max(MARGIN + reaches[second], across[first] - slant)
    high = min(IMAGE_SIZE - MARGIN - reaches[second], across[first] + slant)
    across[second] = float(rng.uniform(low, high))
    if relation in ("left of", "right of"):
        return list(zip(along, across, strict=True))
    return list(zip(across, along, strict=True))

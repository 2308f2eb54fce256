"""Recognition of the scene in an image.

The color of the border is the background. All other pixels form connected components, and each component is compared
with every shape at the same area and several rotations. An image is unreadable if it is not clearly a captioned-shapes
scene: if it has colors outside the palette, shapes that match no template, objects that are cut off by the border,
stray marks, no object, or more than two.
"""

import dataclasses
import math

import numpy as np

from unclip_jax.data.captioned_shapes.drawing import (
    CROSS_ARM,
    RING_HOLE,
    STAR_NOTCH,
    STAR_RADIUS,
    STAR_SHIFT,
    coverage,
)
from unclip_jax.data.captioned_shapes.scene import (
    COLOURS,
    IMAGE_SIZE,
    SHAPES,
    Object,
    Scene,
    relation_between,
    size_of,
)

# The thresholds were chosen on rendered images and on blurred, noisy and upsampled (from 64 px) versions of them.
TOLERANCE = 45.0  # maximum RGB distance of a pixel from a named color; named colors are at least 110 apart
BORDER = 4  # width in pixels of the border in which the background is recognized
BORDER_SHARE = 0.5  # minimum fraction of the border with the background color; the rest counts as foreground
COLOUR_SHARE = 0.4  # minimum fraction of an object's interior with one named color; half of a blurred cross is edge
FOREIGN_SHARE = 0.05  # maximum fraction of an object that is not a mixture of its color and the background
MIN_OVERLAP = 0.8  # minimum intersection over union of object and template; rendered images have at least 0.92
MIN_OBJECT_AREA = 600  # pixels; the smallest rendered object has about 1,000
MAX_STRAY_AREA = 200  # maximum number of foreground pixels that belong to no object
HALF_EXTENTS = (20.0, 72.0)  # range in pixels, wider than that of rendered objects
MAX_RUNS = 4_000  # maximum number of horizontal foreground runs; two objects have about 500, noise tens of thousands
TURNS = (-6.0, -3.0, 3.0, 6.0)  # rotations in degrees to try, in addition to 0, for the two best shapes

_NAMES = tuple(COLOURS)
_PALETTE = np.asarray([COLOURS[name] for name in _NAMES], np.float32)

# Area of each shape at half-extent 1, and the distance of its centroid below the center of its bounding box.
_AREA = {
    "circle": math.pi,
    "square": 4.0,
    "triangle": math.sqrt(3.0),
    "star": 5.0 * STAR_RADIUS**2 * STAR_NOTCH * math.sin(math.radians(36.0)),
    "ring": math.pi * (1.0 - RING_HOLE**2),
    "cross": 8.0 * CROSS_ARM - 4.0 * CROSS_ARM**2,
}
_CENTROID = {"triangle": math.sqrt(3.0) / 6.0, "star": STAR_SHIFT}


@dataclasses.dataclass(frozen=True)
class _Component:
    """A connected component of the foreground: bounding box (right, bottom exclusive) and mask in it."""

    left: int
    top: int
    right: int
    bottom: int
    mask: np.ndarray


def read(image: np.ndarray) -> Scene | None:
    """Recognizes the scene in an image.

    Args:
      image: uint8 [256, 256, 3].

    Returns:
      The scene, or None if the image is unreadable. Two objects are in no particular order. The relation of objects[0]
      to objects[1] is determined by their centers.

    Raises:
      ValueError: If the array has another shape or type.
    """
    if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3) or image.dtype != np.uint8:
        raise ValueError(f"image must be uint8 [256, 256, 3], got {image.dtype} {list(image.shape)}.")
    pixels = image.astype(np.float32)
    background = _background(pixels)
    if background is None:
        return None
    components = _components(_squared_distance(pixels, COLOURS[background]) > TOLERANCE**2)
    if components is None:
        return None
    areas = [int(component.mask.sum()) for component in components]
    large = [component for component, area in zip(components, areas, strict=True) if area >= MIN_OBJECT_AREA]
    stray_area = sum(area for area in areas if area < MIN_OBJECT_AREA)
    if stray_area > MAX_STRAY_AREA or len(large) not in (1, 2):
        return None
    objects = [_read_object(pixels, background, component) for component in large]
    if any(item is None for item in objects):
        return None
    return Scene(background, tuple(objects), relation_between(*objects) if len(objects) == 2 else None)


def _squared_distance(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Computes the squared RGB distance of pixels [..., 3] to one color."""
    difference = pixels - np.asarray(color, np.float32)
    return np.einsum("...c,...c->...", difference, difference)


def _dominant_color(pixels: np.ndarray, share: float) -> str | None:
    """Returns the named color of at least a fraction `share` of the pixels [N, 3], or None."""
    # Expand |p - c|^2 to compute the distances to all colors with one matrix product.
    distance = np.square(pixels).sum(axis=1)[:, None] - 2.0 * pixels @ _PALETTE.T + np.square(_PALETTE).sum(axis=1)
    nearest = distance.argmin(axis=1)
    near = distance.min(axis=1) <= TOLERANCE**2
    counts = np.bincount(nearest[near], minlength=len(_NAMES))
    best = int(counts.argmax())
    return _NAMES[best] if len(pixels) and counts[best] >= share * len(pixels) else None


def _background(pixels: np.ndarray) -> str | None:
    """Returns the color of the border, or None if it has no dominant color."""
    bands = (pixels[:BORDER], pixels[-BORDER:], pixels[BORDER:-BORDER, :BORDER], pixels[BORDER:-BORDER, -BORDER:])
    return _dominant_color(np.concatenate([band.reshape(-1, 3) for band in bands]), BORDER_SHARE)


def _components(foreground: np.ndarray) -> list[_Component] | None:
    """Returns the 8-connected components of a mask, or None if it has too many horizontal runs.

    Runs of adjacent rows that touch are merged, which is much faster than merging pixels.
    """
    steps = np.diff(np.pad(foreground, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    if len(rows) > MAX_RUNS:
        return None
    labels = _label_runs(rows.tolist(), starts.tolist(), ends.tolist())
    components = []
    for label in np.unique(labels):
        runs = np.flatnonzero(labels == label)
        left, right = int(starts[runs].min()), int(ends[runs].max())
        top, bottom = int(rows[runs].min()), int(rows[runs].max()) + 1
        mask = np.zeros((bottom - top, right - left), bool)
        for run in runs:
            mask[rows[run] - top, starts[run] - left : ends[run] - left] = True
        components.append(_Component(left, top, right, bottom, mask))
    return components


def _label_runs(rows: list[int], starts: list[int], ends: list[int]) -> np.ndarray:
    """Returns, for each run in reading order, the index of the first run of its component (union-find)."""
    parents = list(range(len(rows)))

    def find(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    above = 0  # first run of the previous row that may still touch the current one
    for run, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] < starts[run]):
            above += 1
        other = above
        while rows[other] == row - 1 and starts[other] <= ends[run]:
            first, second = sorted((find(run), find(other)))
            parents[second] = first
            other += 1
    return np.asarray([find(run) for run in range(len(rows))], np.int64)


def _read_object(pixels: np.ndarray, background: str, component: _Component) -> Object | None:
    """Returns the object of a component, or None if it is unreadable."""
    left, top, right, bottom = component.left, component.top, component.right, component.bottom
    if left == 0 or top == 0 or right == IMAGE_SIZE or bottom == IMAGE_SIZE:
        return None
    mask = np.pad(component.mask, 1)
    box = (left - 1, top - 1, right + 1, bottom + 1)
    patch = pixels[box[1] : box[3], box[0] : box[2]]
    color = _dominant_color(patch[_eroded(mask, 2)], COLOUR_SHARE)
    if color is None or color == background:
        return None
    # Edge pixels are mixtures of the two colors. The proportion of the object's color is the covered fraction.
    background_rgb = np.asarray(COLOURS[background], np.float32)
    difference = np.asarray(COLOURS[color], np.float32) - background_rgb
    alpha = np.clip((patch - background_rgb) @ difference / (difference @ difference), 0.0, 1.0)
    foreign = np.square(patch - background_rgb - alpha[..., None] * difference).sum(axis=-1) > TOLERANCE**2
    if (foreign & mask).sum() > FOREIGN_SHARE * mask.sum():
        return None
    inside = (alpha > 0.5) & mask
    if inside.sum() < MIN_OBJECT_AREA:
        return None
    overlap, shape, x, y, half_extent, rotation = _best_shape(inside, box)
    if overlap < MIN_OVERLAP or not HALF_EXTENTS[0] <= half_extent <= HALF_EXTENTS[1]:
        return None
    return Object(shape, color, size_of(half_extent), x, y, half_extent, rotation)


def _eroded(mask: np.ndarray, steps: int) -> np.ndarray:
    """Erodes a mask `steps` times by one pixel. The border of the mask must be False."""
    for _ in range(steps):
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        mask = inner
    return mask


def _best_shape(inside: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, str, float, float, float, float]:
    """Returns overlap, shape, x, y, half-extent and rotation of the template that matches best.

    Pixels of the object and the template count if more than half is covered, because blur hardly moves that line.
    """
    area = float(inside.sum())
    centroid_x = float(inside.sum(axis=0) @ (np.arange(box[0], box[2]) + 0.5)) / area
    centroid_y = float(inside.sum(axis=1) @ (np.arange(box[1], box[3]) + 0.5)) / area

    def fit(shape: str, rotation: float) -> tuple[float, str, float, float, float, float]:
        half_extent = math.sqrt(area / _AREA[shape])
        offset = _CENTROID.get(shape, 0.0) * half_extent
        x = centroid_x + offset * math.sin(math.radians(rotation))
        y = centroid_y - offset * math.cos(math.radians(rotation))
        template = coverage(shape, x, y, half_extent, rotation, box) > 0.5
        overlap = float((inside & template).sum()) / float((inside | template).sum())
        return overlap, shape, x, y, half_extent, rotation

    upright = sorted((fit(shape, 0.0) for shape in SHAPES), reverse=True)
    candidates = [best[1] for best in upright[:2] if best[1] not in ("circle", "ring")]  # these look the same rotated
    rotated = [fit(shape, rotation) for shape in candidates for rotation in TURNS]
    return max([upright[0], *rotated])

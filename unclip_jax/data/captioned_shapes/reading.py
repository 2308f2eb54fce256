"""Reads a picture back into the scene that it shows, or finds it unreadable.

The picture alone is looked at: the border's colour is the background, whatever differs from it falls into connected
pieces, and each piece is held against every shape, drawn as large as the piece and turned a little either way. What is
not clearly a captioned-shapes scene (colours outside the palette, shapes that fit no template, objects cut off by the
frame, stray marks, no object or more than two) is unreadable.
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

# Thresholds were set on true renders and on their degradations (blurred, noisy, enlarged from 64 px).
TOLERANCE = 45.0  # how far in RGB a colour may be from its name's; the nearest two colours are 110 apart
BORDER = 4  # width in pixels of the frame that shows the background
BORDER_SHARE = 0.5  # of the border that has to be of one colour; the rest counts as foreground
COLOUR_SHARE = 0.4  # of an object's inside that has to be of one named colour; a blurred cross is half edge
FOREIGN_SHARE = 0.05  # of an object at most that is no mixture of its colour and the background's
MIN_OVERLAP = 0.8  # of object and template, intersection over union; true renders have at least 0.92
MIN_OBJECT_AREA = 600  # pixels; the smallest object that is drawn has about 1,000
MAX_STRAY_AREA = 200  # pixels in all that belong to no object
HALF_EXTENTS = (20.0, 72.0)  # nothing drawn is smaller or larger
MAX_RUNS = 4_000  # horizontal runs of foreground; two objects make some 500, noise tens of thousands
TURNS = (-6.0, -3.0, 3.0, 6.0)  # degrees, tried beside 0 on the two shapes that fit best

_NAMES = tuple(COLOURS)
_PALETTE = np.asarray([COLOURS[name] for name in _NAMES], np.float32)

# Area of each shape at half-extent 1, and how far its centroid lies below the middle of its box.
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
class _Piece:
    """A connected piece of foreground: its box (right and bottom excluded) and which pixels of the box are its own."""

    left: int
    top: int
    right: int
    bottom: int
    mask: np.ndarray


def read(image: np.ndarray) -> Scene | None:
    """The scene that `image`, uint8 [256, 256, 3], shows; None: unreadable.

    Two objects come in no particular order; the relation is of objects[0] to objects[1], by their middles. Raises
    ValueError for an array of another shape or type.
    """
    if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3) or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; a scene is read from uint8 [256, 256, 3]")
    pixels = image.astype(np.float32)
    background = _background(pixels)
    if background is None:
        return None
    pieces = _pieces(_squared_distance(pixels, COLOURS[background]) > TOLERANCE**2)
    if pieces is None:
        return None
    large = [piece for piece in pieces if piece.mask.sum() >= MIN_OBJECT_AREA]
    stray = sum(int(piece.mask.sum()) for piece in pieces) - sum(int(piece.mask.sum()) for piece in large)
    if stray > MAX_STRAY_AREA or len(large) not in (1, 2):
        return None
    objects = [_read_object(pixels, background, piece) for piece in large]
    if any(item is None for item in objects):
        return None
    return Scene(background, tuple(objects), relation_between(*objects) if len(objects) == 2 else None)


def _squared_distance(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Squared distance in RGB of [..., 3] to one colour."""
    difference = pixels - np.asarray(colour, np.float32)
    return np.einsum("...c,...c->...", difference, difference)


def _name_colour(pixels: np.ndarray, share: float) -> str | None:
    """The colour that at least `share` of the pixels [N, 3] have, within the tolerance; None: there is none."""
    # |p - c|^2 written out, so that one matrix product does all colours.
    distance = np.square(pixels).sum(axis=1)[:, None] - 2.0 * pixels @ _PALETTE.T + np.square(_PALETTE).sum(axis=1)
    nearest = distance.argmin(axis=1)
    near = distance.min(axis=1) <= TOLERANCE**2
    counts = np.bincount(nearest[near], minlength=len(_NAMES))
    best = int(counts.argmax())
    return _NAMES[best] if len(pixels) and counts[best] >= share * len(pixels) else None


def _background(pixels: np.ndarray) -> str | None:
    """The colour of the picture's border; None where no colour of the palette has half of it."""
    bands = (pixels[:BORDER], pixels[-BORDER:], pixels[BORDER:-BORDER, :BORDER], pixels[BORDER:-BORDER, -BORDER:])
    return _name_colour(np.concatenate([band.reshape(-1, 3) for band in bands]), BORDER_SHARE)


def _pieces(foreground: np.ndarray) -> list[_Piece] | None:
    """The connected pieces of a mask, corners counted as contact; None where it is torn into too many runs.

    Works on horizontal runs: those of neighbouring rows that touch are joined, each under the lowest number.
    """
    steps = np.diff(np.pad(foreground, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    if len(rows) > MAX_RUNS:
        return None
    owners = _join_runs(rows.tolist(), starts.tolist(), ends.tolist())
    pieces = []
    for owner in np.unique(owners):
        mine = np.flatnonzero(owners == owner)
        left, right = int(starts[mine].min()), int(ends[mine].max())
        top, bottom = int(rows[mine].min()), int(rows[mine].max()) + 1
        mask = np.zeros((bottom - top, right - left), bool)
        for run in mine:
            mask[rows[run] - top, starts[run] - left : ends[run] - left] = True
        pieces.append(_Piece(left, top, right, bottom, mask))
    return pieces


def _join_runs(rows: list[int], starts: list[int], ends: list[int]) -> np.ndarray:
    """For each run, in reading order, the number of the first run of its piece."""
    parents = list(range(len(rows)))

    def find(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    above = 0  # the first run that may still touch the current one from the row above
    for run, row in enumerate(rows):
        while rows[above] < row - 1 or (rows[above] == row - 1 and ends[above] < starts[run]):
            above += 1
        other = above
        while rows[other] == row - 1 and starts[other] <= ends[run]:
            first, second = sorted((find(run), find(other)))
            parents[second] = first
            other += 1
    return np.asarray([find(run) for run in range(len(rows))], np.int64)


def _read_object(pixels: np.ndarray, background: str, piece: _Piece) -> Object | None:
    """The object that a piece shows; None where it touches the frame, has no clear colour or fits no shape."""
    if piece.left == 0 or piece.top == 0 or piece.right == IMAGE_SIZE or piece.bottom == IMAGE_SIZE:
        return None
    mask = np.pad(piece.mask, 1)
    box = (piece.left - 1, piece.top - 1, piece.right + 1, piece.bottom + 1)
    patch = pixels[box[1] : box[3], box[0] : box[2]]
    colour = _name_colour(patch[_shrunk(mask, 2)], COLOUR_SHARE)
    if colour is None or colour == background:
        return None
    # An edge pixel lies between the two colours; how far along the way is how much of it the object covers.
    ground = np.asarray(COLOURS[background], np.float32)
    way = np.asarray(COLOURS[colour], np.float32) - ground
    share = np.clip((patch - ground) @ way / (way @ way), 0.0, 1.0)
    foreign = np.square(patch - ground - share[..., None] * way).sum(axis=-1) > TOLERANCE**2
    if (foreign & mask).sum() > FOREIGN_SHARE * mask.sum():
        return None
    inside = (share > 0.5) & mask
    if inside.sum() < MIN_OBJECT_AREA:
        return None
    overlap, shape, x, y, half_extent, turn = _best_shape(inside, box)
    if overlap < MIN_OVERLAP or not HALF_EXTENTS[0] <= half_extent <= HALF_EXTENTS[1]:
        return None
    return Object(shape, colour, size_of(half_extent), x, y, half_extent, turn)


def _shrunk(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask without the pixels that have a neighbour outside it, `steps` times over; its border is False."""
    for _ in range(steps):
        inner = mask.copy()
        inner[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        mask = inner
    return mask


def _best_shape(inside: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, str, float, float, float, float]:
    """Overlap, shape, middle (x, y), half-extent and turn of the template that fits the pixels of `box` best.

    Pixels count as inside when they are covered by half, in the object as in the template: blur moves that line least.
    """
    area = float(inside.sum())
    centroid_x = float(inside.sum(axis=0) @ (np.arange(box[0], box[2]) + 0.5)) / area
    centroid_y = float(inside.sum(axis=1) @ (np.arange(box[1], box[3]) + 0.5)) / area

    def fit(shape: str, turn: float) -> tuple[float, str, float, float, float, float]:
        half_extent = math.sqrt(area / _AREA[shape])
        drop = _CENTROID.get(shape, 0.0) * half_extent
        x = centroid_x + drop * math.sin(math.radians(turn))
        y = centroid_y - drop * math.cos(math.radians(turn))
        template = coverage(shape, x, y, half_extent, turn, box) > 0.5
        overlap = float((inside & template).sum()) / float((inside | template).sum())
        return overlap, shape, x, y, half_extent, turn

    upright = sorted((fit(shape, 0.0) for shape in SHAPES), reverse=True)
    # A circle is the same however it is turned, and so is a ring.
    turned = [fit(best[1], turn) for best in upright[:2] if best[1] not in ("circle", "ring") for turn in TURNS]
    return max([upright[0], *turned])

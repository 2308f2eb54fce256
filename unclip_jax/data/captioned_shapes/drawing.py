"""Rendering of scenes in flat colors, with edges anti-aliased by signed distances."""

import math

import numpy as np

from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE, SHAPES, Scene, reach, rgb

THUMBNAIL_SIZE = 64

RING_HOLE = 0.5  # inner radius of a ring, as a fraction of the outer radius
CROSS_ARM = 0.36  # half the width of a cross's arm, as a fraction of its half-extent
# Five-pointed star of width 2. Its points are on a circle of radius 1 / sin 72, its notches at 0.42 of that radius.
STAR_RADIUS = 1.0 / math.sin(math.radians(72.0))
STAR_NOTCH = 0.42
# Vertically, the star extends from -1 radius (top point) to cos 36 radii (bottom points) around the center of its
# circle. That center is therefore this far below the center of its bounding box.
STAR_SHIFT = STAR_RADIUS * (1.0 - math.cos(math.radians(36.0))) / 2.0


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Computes the signed distance to the outline of a shape with half-extent 1, negative inside.

    Distances are exact inside and next to edges. Outside a corner it is the distance to the line through the nearer
    edge, which makes no visible difference if edges are anti-aliased over one pixel.

    Args:
      shape: One of SHAPES.
      x: Horizontal coordinates relative to the center of the bounding box.
      y: Vertical coordinates relative to it, increasing downwards.

    Raises:
      ValueError: If the shape is unknown.
    """
    if shape == "circle":
        return np.sqrt(x * x + y * y) - 1.0
    if shape == "ring":
        middle, half_width = (1.0 + RING_HOLE) / 2.0, (1.0 - RING_HOLE) / 2.0
        return np.abs(np.sqrt(x * x + y * y) - middle) - half_width
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 1.0
    if shape == "triangle":  # equilateral with side 2 and height sqrt 3
        half_height = math.sqrt(3.0) / 2.0
        return np.maximum(y - half_height, (np.abs(x) * math.sqrt(3.0) - (y + half_height)) / 2.0)
    if shape == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(x - 1.0, y - CROSS_ARM), np.maximum(y - 1.0, x - CROSS_ARM))
    if shape == "star":
        return _star_distance(x, y)
    raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}.")


def _star_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Folds the star onto half of its top point, where the outline is a single line."""
    x, y = np.abs(x), STAR_SHIFT - y  # origin at the center of the circle, y upwards
    for degrees in (108.0, 36.0):  # reflect everything beyond the borders between points
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        beyond = np.maximum(x * cos - y * sin, 0.0)
        x, y = x - 2.0 * beyond * cos, y + 2.0 * beyond * sin
    x = np.abs(x)
    notch = STAR_RADIUS * STAR_NOTCH
    notch_x, notch_y = notch * math.sin(math.radians(36.0)), notch * math.cos(math.radians(36.0))
    edge_x, edge_y = notch_x, notch_y - STAR_RADIUS  # from the top point to the notch
    length = math.hypot(edge_x, edge_y)
    return (x * -edge_y + (y - STAR_RADIUS) * edge_x) / length


def coverage(
    shape: str, x: float, y: float, half_extent: float, rotation: float, box: tuple[int, int, int, int]
) -> np.ndarray:
    """Computes the fraction of each pixel that a shape covers.

    Args:
      shape: One of SHAPES.
      x: Horizontal center of the shape in pixels.
      y: Vertical center of the shape in pixels.
      half_extent: Half the width of the unrotated shape in pixels.
      rotation: Clockwise rotation in degrees.
      box: Pixels to compute: left, top, right and bottom; right and bottom are exclusive.

    Returns:
      float32 [bottom - top, right - left] in [0, 1].
    """
    left, top, right, bottom = box
    across = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x))[None, :] / np.float32(half_extent)
    down = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None] / np.float32(half_extent)
    cos, sin = np.float32(math.cos(math.radians(rotation))), np.float32(math.sin(math.radians(rotation)))
    distance = signed_distance(shape, across * cos + down * sin, down * cos - across * sin)
    return np.clip(np.float32(0.5) - distance * np.float32(half_extent), 0.0, 1.0)


def draw(scene: Scene) -> np.ndarray:
    """Renders a scene as uint8 [256, 256, 3]."""
    image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    image[:] = rgb(scene.background)
    for item in scene.objects:
        half = reach(item.half_extent, item.rotation) + 1.0
        left, top = max(math.floor(item.x - half), 0), max(math.floor(item.y - half), 0)
        right, bottom = min(math.ceil(item.x + half), IMAGE_SIZE), min(math.ceil(item.y + half), IMAGE_SIZE)
        alpha = coverage(item.shape, item.x, item.y, item.half_extent, item.rotation, (left, top, right, bottom))
        patch = image[top:bottom, left:right]
        color = np.asarray(rgb(item.colour), np.float32)
        patch[:] = (patch + alpha[..., None] * (color - patch) + np.float32(0.5)).astype(np.uint8)
    return image


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Downscales uint8 [256, 256, 3] to [64, 64, 3]: the rounded mean of every 4 x 4 pixels."""
    step = IMAGE_SIZE // THUMBNAIL_SIZE
    blocks = image.reshape(THUMBNAIL_SIZE, step, THUMBNAIL_SIZE, step, 3)
    rows = blocks.sum(axis=1, dtype=np.uint16)
    return ((rows.sum(axis=2, dtype=np.uint16) + step * step // 2) // (step * step)).astype(np.uint8)

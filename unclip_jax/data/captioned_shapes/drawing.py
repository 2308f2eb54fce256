"""Paints scenes: flat colours with anti-aliased edges, each shape by its signed distance."""

import math

import numpy as np

from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE, Scene, reach, rgb

THUMBNAIL_SIZE = 64

RING_HOLE = 0.5  # inner radius of a ring, as a share of its outer one
CROSS_ARM = 0.36  # half the width of a cross's arm, as a share of its half-extent
# A five-pointed star whose width is 2: its points lie on a circle of radius 1 / sin 72, its notches at 0.42 of that.
STAR_RADIUS = 1.0 / math.sin(math.radians(72.0))
STAR_NOTCH = 0.42
# From the top point to the bottom pair the star reaches from -1 to +cos 36 radii; its circle's middle lies lower than
# the middle of its box by this much.
STAR_SHIFT = STAR_RADIUS * (1.0 - math.cos(math.radians(36.0))) / 2.0


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline of `shape` at half-extent 1, negative inside; y points downwards.

    Exact along edges and inside; outside a corner it is the distance to the nearer edge's line, which anti-aliasing
    over one pixel cannot tell.
    """
    if shape == "circle":
        return np.sqrt(x * x + y * y) - 1.0
    if shape == "ring":
        middle, half_width = (1.0 + RING_HOLE) / 2.0, (1.0 - RING_HOLE) / 2.0
        return np.abs(np.sqrt(x * x + y * y) - middle) - half_width
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 1.0
    if shape == "triangle":  # equilateral, side 2, height sqrt 3
        half_height = math.sqrt(3.0) / 2.0
        return np.maximum(y - half_height, (np.abs(x) * math.sqrt(3.0) - (y + half_height)) / 2.0)
    if shape == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(x - 1.0, y - CROSS_ARM), np.maximum(y - 1.0, x - CROSS_ARM))
    if shape == "star":
        return _star_distance(x, y)
    raise ValueError(f"shape {shape!r} is unknown; known: circle, square, triangle, star, ring, cross")


def _star_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The star folded onto one half of its top point, where its outline is a single line."""
    x, y = np.abs(x), STAR_SHIFT - y  # y upwards from the circle's middle
    for degrees in (108.0, 36.0):  # the borders between points, seen from the top one: mirror what lies beyond them
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
    """The share of each pixel of `box` (left, top, right, bottom; right and bottom excluded) that the shape covers,
    float32 0..1."""
    left, top, right, bottom = box
    across = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x))[None, :] / np.float32(half_extent)
    down = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y))[:, None] / np.float32(half_extent)
    cos, sin = np.float32(math.cos(math.radians(rotation))), np.float32(math.sin(math.radians(rotation)))
    distance = signed_distance(shape, across * cos + down * sin, down * cos - across * sin)
    return np.clip(np.float32(0.5) - distance * np.float32(half_extent), 0.0, 1.0)


def draw(scene: Scene) -> np.ndarray:
    """The scene's picture, uint8 [256, 256, 3]."""
    image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    image[:] = rgb(scene.background)
    for item in scene.objects:
        half = reach(item.half_extent, item.rotation) + 1.0
        left, top = max(math.floor(item.x - half), 0), max(math.floor(item.y - half), 0)
        right, bottom = min(math.ceil(item.x + half), IMAGE_SIZE), min(math.ceil(item.y + half), IMAGE_SIZE)
        share = coverage(item.shape, item.x, item.y, item.half_extent, item.rotation, (left, top, right, bottom))
        patch = image[top:bottom, left:right]
        colour = np.asarray(rgb(item.colour), np.float32)
        patch[:] = (patch + share[..., None] * (colour - patch) + np.float32(0.5)).astype(np.uint8)
    return image


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 [64, 64, 3]: the exact average of every 4 x 4 pixels, rounded; what a stage of up to 64 px learns from."""
    step = IMAGE_SIZE // THUMBNAIL_SIZE
    blocks = image.reshape(THUMBNAIL_SIZE, step, THUMBNAIL_SIZE, step, 3)
    rows = blocks.sum(axis=1, dtype=np.uint16)
    return ((rows.sum(axis=2, dtype=np.uint16) + step * step // 2) // (step * step)).astype(np.uint8)

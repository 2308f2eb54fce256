"""Rendering: areas and outlines of shapes, anti-aliased edges, exact thumbnails."""

import math

import numpy as np
import pytest

from unclip_jax.data.captioned_shapes.drawing import coverage, draw, signed_distance, thumbnail
from unclip_jax.data.captioned_shapes.scene import COLOURS, Object, Scene

FULL = (0, 0, 256, 256)
RADIUS = 1 / math.sin(math.radians(72))  # of the circle through the points of a star with half-extent 1
# Area of each shape at half-extent 1, computed from the definition of its outline.
AREAS = {
    "circle": math.pi,
    "ring": math.pi * (1 - 0.5**2),
    "square": 4.0,
    "triangle": math.sqrt(3),
    "cross": 2 * (2 * 0.72) - 0.72**2,
    "star": 10 * 0.5 * RADIUS * 0.42 * RADIUS * math.sin(math.radians(36)),
}


@pytest.mark.parametrize("shape", sorted(AREAS))
@pytest.mark.parametrize("half_extent, rotation", [(30.3, 0.0), (52.7, 5.5)])
def test_coverage_has_the_area_of_the_shape(shape, half_extent, rotation):
    area = coverage(shape, 120.3, 130.8, half_extent, rotation, FULL).sum()
    assert area == pytest.approx(AREAS[shape] * half_extent**2, rel=0.01)


@pytest.mark.parametrize("shape", sorted(AREAS))
def test_coverage_is_centered_and_twice_the_half_extent_wide(shape):
    drawn = coverage(shape, 128.0, 128.0, 40.0, 0.0, FULL)
    columns, rows = np.flatnonzero(drawn.max(axis=0) > 0.3), np.flatnonzero(drawn.max(axis=1) > 0.3)
    assert abs(columns[0] - 88) <= 2 and abs(columns[-1] - 167) <= 2  # points are thinner than a pixel
    assert abs((rows[0] + rows[-1] + 1) / 2 - 128) <= 1
    np.testing.assert_allclose(drawn, drawn[:, ::-1], atol=1e-5)


def polygon_contains(corners: np.ndarray, x: float, y: float) -> bool:
    """Tests a point with the even-odd rule."""
    inside = False
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


def test_signed_distance_of_star_matches_polygon():
    """Compares the sign of the distance with an even-odd test of the polygon with ten corners."""
    angles = np.radians(36.0 * np.arange(10))
    radii = np.where(np.arange(10) % 2 == 0, RADIUS, 0.42 * RADIUS)
    shift = RADIUS * (1 - math.cos(math.radians(36))) / 2
    corners = np.stack([radii * np.sin(angles), shift - radii * np.cos(angles)], axis=-1)
    points = np.random.default_rng(0).uniform(-1.1, 1.1, (2000, 2))
    distance = signed_distance("star", points[:, 0], points[:, 1])
    unambiguous = np.abs(distance) > 1e-3
    expected = np.asarray([polygon_contains(corners, x, y) for x, y in points])
    assert unambiguous.sum() > 1900 and 0.2 < expected.mean() < 0.4
    np.testing.assert_array_equal(distance[unambiguous] < 0, expected[unambiguous])


@pytest.mark.parametrize(
    "shape, x, y, distance",
    [
        ("circle", 0.6, 0.8, 0.0),
        ("circle", 0.0, 0.0, -1.0),
        ("ring", 0.0, 0.0, 0.5),
        ("ring", 0.75, 0.0, -0.25),
        ("square", 0.2, -1.5, 0.5),
        ("triangle", 0.0, math.sqrt(3) / 2, 0.0),  # middle of the base
        ("triangle", 0.0, -math.sqrt(3) / 2, 0.0),  # top
        ("triangle", -1.0, math.sqrt(3) / 2, 0.0),
        ("cross", 0.9, 0.0, -0.1),
        ("cross", 0.68, 0.68, 0.32),
    ],
)
def test_signed_distance_of_hand_computed_points(shape, x, y, distance):
    assert float(signed_distance(shape, np.asarray(x), np.asarray(y))) == pytest.approx(distance, abs=1e-6)


def test_signed_distance_rejects_unknown_shape():
    with pytest.raises(ValueError, match="shape must be one of circle, square, .*, got 'blob'"):
        signed_distance("blob", np.zeros(1), np.zeros(1))


def test_coverage_rotates_clockwise():
    """The top of a triangle moves to the right."""
    drawn = coverage("triangle", 128, 128, 50, 6, FULL)
    top = np.flatnonzero(drawn.max(axis=1) > 0.5)[0]
    assert np.flatnonzero(drawn[top] > 0.3).mean() == pytest.approx(
        128 + 50 * math.sqrt(3) / 2 * math.sin(math.radians(6)), abs=2
    )


def test_draw_has_flat_colors_and_smooth_edges():
    item = Object("circle", "yellow", "large", 100.25, 150.5, 50.0, 3.0)
    image = draw(Scene("blue", (item,)))
    assert image.shape == (256, 256, 3) and image.dtype == np.uint8
    distance = np.hypot(np.arange(256)[None] + 0.5 - 100.25, np.arange(256)[:, None] + 0.5 - 150.5) - 50.0
    assert (image[distance < -0.51] == COLOURS["yellow"]).all()
    assert (image[distance > 0.51] == COLOURS["blue"]).all()
    edge = image[np.abs(distance) < 0.3].astype(float)
    assert len(edge) > 100
    low, high = np.minimum(COLOURS["yellow"], COLOURS["blue"]), np.maximum(COLOURS["yellow"], COLOURS["blue"])
    assert ((edge > low) & (edge < high)).all()


def test_draw_places_objects_at_their_positions():
    first = Object("square", "red", "small", 60.0, 80.0, 30.0)
    second = Object("cross", "black", "small", 190.0, 100.0, 30.0)
    image = draw(Scene("white", (first, second), "left of"))
    assert tuple(image[80, 60]) == COLOURS["red"] and tuple(image[100, 190]) == COLOURS["black"]
    assert tuple(image[80, 25]) == tuple(image[75, 165]) == COLOURS["white"]  # outside, and between a cross's arms


def test_thumbnail_is_the_rounded_box_average():
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    small = thumbnail(image)
    assert small.shape == (64, 64, 3) and small.dtype == np.uint8
    for row, column in [(0, 0), (17, 40), (63, 63)]:
        block = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].astype(float)
        np.testing.assert_array_equal(small[row, column], np.floor(block.mean(axis=(0, 1)) + 0.5))
    assert (thumbnail(np.full((256, 256, 3), 255, np.uint8)) == 255).all()

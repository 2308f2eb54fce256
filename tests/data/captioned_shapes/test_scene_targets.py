"""Scene targets against hand-computed values."""

import dataclasses

import numpy as np

from unclip_jax.data.captioned_shapes.scene import SHAPES, Object, Scene
from unclip_jax.data.captioned_shapes.scene_targets import COUNT, scene_targets

# The center of the star is at (1, -0.5) quarters of the side. Black is -1 in each channel, white is 1.
STAR = Object("star", "black", "large", x=192.0, y=96.0, half_extent=50.0)
RING = Object("ring", "#ff0000", "small", x=64.0, y=128.0, half_extent=30.0)


def test_scene_targets_of_one_object():
    actual = scene_targets(Scene("white", (STAR,)))
    assert actual.shape == (COUNT,) and actual.dtype == np.float32
    attributes = [0, 0, 0, 1, 0, 0, 0, 1, -1, -1, -1]  # circle to cross, small, large, red, green, blue
    pairs = [0] * 9 + [-1, -1, -1] + [0] * 6  # shape times color
    sized = [0, 0, 0, 1, 0, 0, -1, -1, -1]
    x, y = [1.0 * value for value in attributes], [-0.5 * value for value in attributes]
    np.testing.assert_array_equal(actual, [*attributes, *x, *y, *pairs, *sized, 1, 1, 1])


def test_scene_targets_are_sums_over_objects():
    both, star, ring = (scene_targets(Scene("white", objects)) for objects in ((STAR, RING), (STAR,), (RING,)))
    np.testing.assert_allclose(both[:-3], star[:-3] + ring[:-3])
    np.testing.assert_array_equal(both, scene_targets(Scene("white", (RING, STAR))))
    small = 11 + 11 + 11 + 18  # index of the first target of sign times shape
    assert ring[small + SHAPES.index("ring")] == -1 and both[small + SHAPES.index("star")] == 1


def test_scene_targets_contain_the_relation():
    """The x targets of the shapes start after 11 attributes."""
    at = [11 + SHAPES.index(name) for name in ("star", "ring")]
    left = scene_targets(Scene("white", (RING, STAR), "left of"))
    assert left[at[1]] - left[at[0]] == -2.0
    moved = dataclasses.replace(STAR, x=32.0)
    assert np.subtract(*scene_targets(Scene("white", (RING, moved), "right of"))[at]) == -0.5

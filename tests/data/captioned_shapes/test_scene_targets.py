"""Scene targets, by hand."""

import dataclasses

import numpy as np

from unclip_jax.data.captioned_shapes.scene import SHAPES, Object, Scene
from unclip_jax.data.captioned_shapes.scene_targets import COUNT, scene_targets

# Middle at (+1, -0.5) quarters of the side; black is -1 in each channel, white 1.
STAR = Object("star", "black", "large", x=192.0, y=96.0, half_extent=50.0)
RING = Object("ring", "#ff0000", "small", x=64.0, y=128.0, half_extent=30.0)


def test_scene_targets_of_one_object_by_hand():
    found = scene_targets(Scene("white", (STAR,)))
    assert found.shape == (COUNT,) and found.dtype == np.float32
    attributes = [0, 0, 0, 1, 0, 0, 0, 1, -1, -1, -1]  # circle to cross, small, large, red, green, blue
    pairs = [0] * 9 + [-1, -1, -1] + [0] * 6  # shape by colour
    sized = [0, 0, 0, 1, 0, 0, -1, -1, -1]
    x, y = [1.0 * value for value in attributes], [-0.5 * value for value in attributes]
    np.testing.assert_array_equal(found, [*attributes, *x, *y, *pairs, *sized, 1, 1, 1])


def test_scene_targets_add_up_over_objects_in_either_order():
    both, star, ring = (scene_targets(Scene("white", objects)) for objects in ((STAR, RING), (STAR,), (RING,)))
    np.testing.assert_allclose(both[:-3], star[:-3] + ring[:-3])
    np.testing.assert_array_equal(both, scene_targets(Scene("white", (RING, STAR))))
    small = 11 + 11 + 11 + 18  # the first moment of size times shape
    assert ring[small + SHAPES.index("ring")] == -1 and both[small + SHAPES.index("star")] == 1


def test_relation_is_the_sign_of_a_sum_of_scene_targets():
    """Of the star's x and the ring's: 11 attributes stand before the x of the first shape."""
    at = [11 + SHAPES.index(name) for name in ("star", "ring")]
    left = scene_targets(Scene("white", (RING, STAR), "left of"))
    assert left[at[1]] - left[at[0]] == -2.0
    moved = dataclasses.replace(STAR, x=32.0)
    assert np.subtract(*scene_targets(Scene("white", (RING, moved), "right of"))[at]) == -0.5

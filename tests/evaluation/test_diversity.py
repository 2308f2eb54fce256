"""Spreads of known centers, computed in closed form."""

import math

import pytest

from unclip_jax.data.captioned_shapes.scene import Object, Scene
from unclip_jax.evaluation.diversity import centers, mean_spread, spread


def test_spread_is_the_root_of_the_mean_unbiased_variance():
    # x: 0, 6 -> unbiased variance 18; y: 1, 5 -> 8.
    assert spread([(0.0, 1.0), (6.0, 5.0)]) == pytest.approx(math.sqrt((18 + 8) / 2))
    # Corners of a square of side 2: the sum of squares is 4 on each axis, divided by 3.
    assert spread([(0, 0), (0, 2), (2, 0), (2, 2)]) == pytest.approx(math.sqrt(4 / 3))


def test_spread_is_zero_for_identical_images():
    assert spread([(10.0, 20.0)] * 8) == 0.0


def test_spread_rejects_fewer_than_two_centers():
    with pytest.raises(ValueError, match="at least 2 points, got 1"):
        spread([(1.0, 1.0)])


def test_mean_spread_skips_groups_with_fewer_than_two_centers():
    groups = [[(0.0, 0.0), (2.0, 2.0)], [(0.0, 0.0), (4.0, 4.0)], [(9.0, 9.0)], []]
    assert mean_spread(groups) == pytest.approx((math.sqrt(2) + math.sqrt(8)) / 2)
    assert mean_spread([[], [(1.0, 1.0)]]) is None


def test_centers_skips_unreadable_images_and_two_objects():
    item = Object("circle", "red", "small", 60.0, 70.0, 32.0)
    two = Scene("white", (item, item), "above")
    assert centers([Scene("white", (item,)), None, two]) == [(60.0, 70.0)]

"""Scenes: geometry, held-out pairs and JSON."""

import dataclasses
import math

import numpy as np
import pytest

from unclip_jax.data.captioned_shapes import scene as shapes
from unclip_jax.data.captioned_shapes.scene import HELD_OUT, Object, Scene, relation_between, sample_scene, size_of


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(3)
    return [sample_scene(rng) for _ in range(4000)]


def box(item: Object) -> tuple[float, float, float, float]:
    """Returns the bounding box of a rotated square with the extent of the object."""
    angle = math.radians(item.rotation)
    corners = [(sx * item.half_extent, sy * item.half_extent) for sx in (-1, 1) for sy in (-1, 1)]
    half = max(abs(x * math.cos(angle) - y * math.sin(angle)) for x, y in corners)
    return item.x - half, item.y - half, item.x + half, item.y + half


def test_held_out_pairs_contain_each_shape_once_with_six_colors():
    assert sorted(shape for shape, _ in HELD_OUT) == sorted(shapes.SHAPES)
    assert len({color for _, color in HELD_OUT}) == 6
    assert {color for _, color in HELD_OUT} <= set(shapes.COLOURS)


def test_colors_are_at_least_110_apart():
    palette = np.asarray(list(shapes.COLOURS.values()), float)
    distance = np.linalg.norm(palette[:, None] - palette[None], axis=-1) + 1000 * np.eye(len(palette))
    assert len(palette) == 8 and distance.min() > 110


def test_objects_keep_margin_and_gap(scenes):
    for scene in scenes:
        boxes = [box(item) for item in scene.objects]
        for left, top, right, bottom in boxes:
            assert min(left, top) >= 6 - 1e-2 and max(right, bottom) <= 250 + 1e-2
        if len(boxes) == 2:
            first, second = boxes
            gap = max(second[0] - first[2], first[0] - second[2], second[1] - first[3], first[1] - second[3])
            assert gap >= 16 - 1e-2


def test_sizes_and_rotations_are_in_range(scenes):
    for item in (item for scene in scenes for item in scene.objects):
        low, high = {"small": (28, 36), "large": (44, 60)}[item.size]
        assert low <= item.half_extent <= high
        assert abs(item.rotation) <= 6
        assert size_of(item.half_extent) == item.size


def test_relation_is_unambiguous(scenes):
    """The centers differ at least twice as much along the axis of the relation as across it."""
    for scene in scenes:
        assert (scene.relation is None) == (len(scene.objects) == 1)
        if scene.relation is None:
            continue
        first, second = scene.objects
        right, down = second.x - first.x, second.y - first.y
        along, across = {
            "left of": (right, down),
            "right of": (-right, down),
            "above": (down, right),
            "below": (-down, right),
        }[scene.relation]
        assert along >= 2 * abs(across) - 1e-2
        assert relation_between(first, second) == scene.relation
        assert relation_between(second, first) == shapes.INVERSE_RELATION[scene.relation]


def test_training_scenes_have_documented_fractions_and_pairs(scenes):
    two = [scene for scene in scenes if len(scene.objects) == 2]
    assert 0.37 < len(two) / len(scenes) < 0.43  # 0.4 plus or minus four standard deviations
    pairs = [(item.shape, item.colour) for scene in scenes for item in scene.objects]
    assert not HELD_OUT & set(pairs)
    assert len(set(pairs)) == 42
    for scene in scenes:
        assert scene.background not in {item.colour for item in scene.objects}
    assert {scene.background for scene in scenes} == set(shapes.COLOURS)
    assert {scene.relation for scene in two} == set(shapes.RELATIONS)
    for first, second in (scene.objects for scene in two):
        assert (first.shape, first.colour) != (second.shape, second.colour)


def test_held_out_scenes_contain_only_held_out_pairs():
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng, held_out=True) for _ in range(300)]
    assert all(len(scene.objects) == 1 for scene in scenes)
    assert {(item.shape, item.colour) for scene in scenes for item in scene.objects} == HELD_OUT


def test_sample_scene_respects_num_objects():
    rng = np.random.default_rng(1)
    for count in (1, 2):
        assert {len(sample_scene(rng, num_objects=count).objects) for _ in range(50)} == {count}
    with pytest.raises(ValueError, match="num_objects must be 1 or 2, got 3"):
        sample_scene(rng, num_objects=3)


def test_json_round_trip_is_exact(scenes):
    for scene in scenes[:500]:
        assert Scene.from_json(scene.to_json()) == scene
        assert Scene.from_json(scene.to_json().encode()) == scene


def test_sample_scene_is_deterministic_given_the_generator():
    first, second = (sample_scene(np.random.default_rng([5, 7])) for _ in range(2))
    assert first == second != sample_scene(np.random.default_rng([5, 8]))


def test_recolour_changes_only_colors_and_avoids_held_out_pairs(scenes):
    rng = np.random.default_rng(8)
    colors = []
    for scene in scenes[:1000]:
        other = shapes.recolour(scene, rng)
        background = np.asarray(shapes.rgb(other.background), float)
        for item, before in zip(other.objects, scene.objects, strict=True):
            assert dataclasses.replace(item, colour=before.colour) == before
            assert not shapes.is_named(item.colour) and (item.shape, shapes.nearest_name(item.colour)) not in HELD_OUT
            assert np.linalg.norm(np.asarray(shapes.rgb(item.colour), float) - background) >= 110
            colors.append(shapes.rgb(item.colour))
        assert other.relation == scene.relation
    # All of RGB: each octant of the cube contains about a tenth of the colors.
    octants = np.unique((np.asarray(colors) >= 128) @ [4, 2, 1], return_counts=True)[1]
    assert len(octants) == 8 and octants.min() > 0.06 * len(colors)


def test_color_functions_accept_names_and_hex_values():
    assert shapes.rgb("orange") == (255, 130, 0) and shapes.is_named("orange")
    assert shapes.rgb("#0a10ff") == (10, 16, 255) and not shapes.is_named("#0a10ff")
    assert shapes.nearest_name("#0a10ff") == "blue" and shapes.nearest_name("#fffff0") == "white"
    assert shapes.nearest_name("purple") == "purple"

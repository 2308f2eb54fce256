"""What scenes hold: their geometry, the split of pairs, and their JSON."""

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
    """A square that holds the turned object, by the corners of a turned square of its size."""
    angle = math.radians(item.rotation)
    corners = [(sx * item.half_extent, sy * item.half_extent) for sx in (-1, 1) for sy in (-1, 1)]
    half = max(abs(x * math.cos(angle) - y * math.sin(angle)) for x, y in corners)
    return item.x - half, item.y - half, item.x + half, item.y + half


def test_held_out_pairs_are_every_shape_once_in_six_colours():
    assert sorted(shape for shape, _ in HELD_OUT) == sorted(shapes.SHAPES)
    assert len({colour for _, colour in HELD_OUT}) == 6
    assert {colour for _, colour in HELD_OUT} <= set(shapes.COLOURS)


def test_colours_lie_far_apart():
    palette = np.asarray(list(shapes.COLOURS.values()), float)
    distance = np.linalg.norm(palette[:, None] - palette[None], axis=-1) + 1000 * np.eye(len(palette))
    assert len(palette) == 8 and distance.min() > 110


def test_objects_lie_inside_and_apart(scenes):
    for scene in scenes:
        boxes = [box(item) for item in scene.objects]
        for left, top, right, bottom in boxes:
            assert min(left, top) >= 6 - 1e-2 and max(right, bottom) <= 250 + 1e-2
        if len(boxes) == 2:
            first, second = boxes
            gap = max(second[0] - first[2], first[0] - second[2], second[1] - first[3], first[1] - second[3])
            assert gap >= 16 - 1e-2


def test_sizes_are_what_their_words_say(scenes):
    for item in (item for scene in scenes for item in scene.objects):
        low, high = {"small": (28, 36), "large": (44, 60)}[item.size]
        assert low <= item.half_extent <= high
        assert abs(item.rotation) <= 6
        assert size_of(item.half_extent) == item.size


def test_relation_is_clear(scenes):
    """The middles differ at least twice as much along the relation's axis as across it, in its direction."""
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


def test_shares_and_pairs_of_the_training_distribution(scenes):
    two = [scene for scene in scenes if len(scene.objects) == 2]
    assert 0.37 < len(two) / len(scenes) < 0.43  # 0.4, four deviations either way
    pairs = [(item.shape, item.colour) for scene in scenes for item in scene.objects]
    assert not HELD_OUT & set(pairs)
    assert len(set(pairs)) == 42
    for scene in scenes:
        assert scene.background not in {item.colour for item in scene.objects}
    assert {scene.background for scene in scenes} == set(shapes.COLOURS)
    assert {scene.relation for scene in two} == set(shapes.RELATIONS)
    for first, second in (scene.objects for scene in two):
        assert (first.shape, first.colour) != (second.shape, second.colour)


def test_held_out_scenes_show_held_out_pairs_alone():
    rng = np.random.default_rng(1)
    scenes = [sample_scene(rng, held_out=True) for _ in range(300)]
    assert all(len(scene.objects) == 1 for scene in scenes)
    assert {(item.shape, item.colour) for scene in scenes for item in scene.objects} == HELD_OUT


def test_number_of_objects_can_be_asked_for():
    rng = np.random.default_rng(1)
    for count in (1, 2):
        assert {len(sample_scene(rng, num_objects=count).objects) for _ in range(50)} == {count}
    with pytest.raises(ValueError, match="num_objects is 3; a scene holds 1 or 2 objects"):
        sample_scene(rng, num_objects=3)


def test_json_round_trip_is_exact(scenes):
    for scene in scenes[:500]:
        assert Scene.from_json(scene.to_json()) == scene
        assert Scene.from_json(scene.to_json().encode()) == scene


def test_same_generator_same_scene():
    first, second = (sample_scene(np.random.default_rng([5, 7])) for _ in range(2))
    assert first == second != sample_scene(np.random.default_rng([5, 8]))


def test_recoloured_scenes_keep_all_but_their_colours_and_show_no_held_out_pair(scenes):
    rng = np.random.default_rng(8)
    seen = []
    for scene in scenes[:1000]:
        other = shapes.recolour(scene, rng)
        ground = np.asarray(shapes.rgb(other.background), float)
        for item, before in zip(other.objects, scene.objects, strict=True):
            assert dataclasses.replace(item, colour=before.colour) == before
            assert not shapes.is_named(item.colour) and (item.shape, shapes.nearest_name(item.colour)) not in HELD_OUT
            assert np.linalg.norm(np.asarray(shapes.rgb(item.colour), float) - ground) >= 110
            seen.append(shapes.rgb(item.colour))
        assert other.relation == scene.relation
    # All of RGB: every eighth of the cube holds a tenth or so of the colours.
    octants = np.unique((np.asarray(seen) >= 128) @ [4, 2, 1], return_counts=True)[1]
    assert len(octants) == 8 and octants.min() > 0.06 * len(seen)


def test_colours_by_name_and_by_number():
    assert shapes.rgb("orange") == (255, 130, 0) and shapes.is_named("orange")
    assert shapes.rgb("#0a10ff") == (10, 16, 255) and not shapes.is_named("#0a10ff")
    assert shapes.nearest_name("#0a10ff") == "blue" and shapes.nearest_name("#fffff0") == "white"
    assert shapes.nearest_name("purple") == "purple"

"""The reader: right on true renders and on mild damage, and not fooled by wrong pictures."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.reading import read
from unclip_jax.data.captioned_shapes.scene import COLOURS, INVERSE_RELATION, Object, Scene, sample_scene


def content(scene: Scene | None) -> tuple | None:
    """All that a caption could say of a scene, whatever the order of its objects; None for an unreadable picture."""
    if scene is None:
        return None
    objects, relation = [(item.shape, item.colour, item.size) for item in scene.objects], scene.relation
    if objects != sorted(objects):
        objects, relation = objects[::-1], INVERSE_RELATION[relation]
    return scene.background, tuple(objects), relation


def share_read(scenes: list[Scene], damage) -> float:
    return float(np.mean([content(read(damage(draw(scene)))) == content(scene) for scene in scenes]))


def sample_scenes(seed: int, count: int) -> list[Scene]:
    """Every tenth of a held-out pair: the reader knows of no split."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, held_out=number % 10 == 0) for number in range(count)]


def test_true_renders():
    assert share_read(sample_scenes(0, 2000), lambda image: image) >= 0.995


def blur(image: np.ndarray) -> np.ndarray:
    """Gaussian, 3 taps, sigma 0.6."""
    taps = np.exp(-np.square([-1.0, 0.0, 1.0]) / (2 * 0.6**2))
    taps /= taps.sum()
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = sum(tap * padded[i : i + 256] for i, tap in enumerate(taps))
    return np.round(sum(tap * rows[:, i : i + 256] for i, tap in enumerate(taps))).astype(np.uint8)


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(int(image.sum())).normal(0.0, 5.0, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def enlarged(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(thumbnail(image)).resize((256, 256), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("damage", [blur, noisy, enlarged])
def test_mild_damage(damage):
    assert share_read(sample_scenes(1, 200), damage) >= 0.99


def test_positions_and_measures_come_back():
    for scene in sample_scenes(2, 100):
        seen = read(draw(scene))
        by_place = sorted(seen.objects, key=lambda item: (item.colour, item.shape, item.x))
        for found, true in zip(by_place, sorted(scene.objects, key=lambda i: (i.colour, i.shape, i.x)), strict=True):
            assert abs(found.x - true.x) < 1.5 and abs(found.y - true.y) < 1.5
            assert abs(found.half_extent - true.half_extent) < 1.0


def empty(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return draw(Scene(scene.background, ()))


def noise(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)


def second_added(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Another object anywhere that is not right on top of the first; where they overlap, the new one covers it."""
    first = scene.objects[0]
    while True:
        other = sample_scene(rng, num_objects=1).objects[0]
        far = np.hypot(other.x - first.x, other.y - first.y) > first.half_extent
        if far and other.colour != scene.background:
            return draw(dataclasses.replace(scene, objects=(first, other)))


def half_cut(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """One half of the object, left, right, upper or lower, painted over."""
    image, item = draw(scene), scene.objects[0]
    x, y = round(item.x), round(item.y)
    area = [np.s_[:, :x], np.s_[:, x:], np.s_[:y], np.s_[y:]][int(rng.integers(4))]
    image[area] = COLOURS[scene.background]
    return image


def half_outside(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The picture moved sideways until the frame cuts the object in half."""
    image = draw(scene)
    moved = np.empty_like(image)
    moved[:] = COLOURS[scene.background]
    shift = round(scene.objects[0].x)
    moved[:, : 256 - shift] = image[:, shift:]
    return moved


ALIEN = ((128, 128, 128), (0, 200, 200), (255, 150, 200), (120, 70, 20), (150, 230, 120), (60, 60, 60), (120, 120, 255))


def alien_colour(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Object or background in a colour that has no name here."""
    image = draw(scene)
    painted = (image == COLOURS[rng.choice([scene.objects[0].colour, scene.background])]).all(axis=-1)
    image[painted] = ALIEN[int(rng.integers(len(ALIEN)))]
    return image


@pytest.mark.parametrize("wrong", [empty, noise, second_added, half_cut, half_outside, alien_colour])
def test_wrong_pictures_are_not_taken_for_right(wrong):
    """300 wrong pictures in all, 50 of each kind, of which no kind may have more than one read as what it was."""
    rng = np.random.default_rng(7)
    fooled = 0
    for _ in range(50):
        scene = sample_scene(rng, num_objects=1)
        fooled += content(read(wrong(scene, rng))) == content(scene)
    assert fooled <= 1


def test_no_object_three_objects_and_stray_marks_are_unreadable():
    positions = ((60.0, 60.0), (190.0, 60.0), (128.0, 190.0))
    three = tuple(Object("square", "red", "small", x, y, 30.0) for x, y in positions)
    assert read(draw(Scene("white", ()))) is None
    assert read(draw(Scene("white", three))) is None
    assert len(read(draw(Scene("white", three[:2]))).objects) == 2
    marked = draw(Scene("white", three[:1]))
    marked[200:210, 100:110] = 0  # 100 stray pixels pass, 400 do not
    assert read(marked) is not None
    marked[200:220, 100:120] = 0
    assert read(marked) is None


def test_object_of_two_colours_is_unreadable():
    image = draw(Scene("white", (Object("square", "red", "large", 128.0, 128.0, 50.0),)))
    image[100:130, 100:130] = COLOURS["blue"]
    assert read(image) is None


def test_object_halfway_to_the_background_is_unreadable():
    """Grey on black is no white, though every pixel of it could be the edge of something white."""
    image = draw(Scene("black", (Object("square", "white", "large", 128.0, 128.0, 50.0),)))
    assert read(image) is not None
    image[image > 0] = 150
    image[120:150, 120:150] = 255
    assert read(image) is None


def test_wrong_array():
    with pytest.raises(ValueError, match=r"image is float64 \[64, 64, 3\]; a scene is read from uint8 \[256, 256, 3\]"):
        read(np.zeros((64, 64, 3)))

"""Reading of scenes: accurate on rendered and mildly degraded images, and robust against incorrect images."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from unclip_jax.data.captioned_shapes.drawing import draw, thumbnail
from unclip_jax.data.captioned_shapes.reading import read
from unclip_jax.data.captioned_shapes.scene import COLOURS, INVERSE_RELATION, Object, Scene, sample_scene


def content(scene: Scene | None) -> tuple | None:
    """Returns the attributes that a caption can name, independently of the order of objects, or None if unreadable."""
    if scene is None:
        return None
    objects, relation = [(item.shape, item.colour, item.size) for item in scene.objects], scene.relation
    if objects != sorted(objects):
        objects, relation = objects[::-1], INVERSE_RELATION[relation]
    return scene.background, tuple(objects), relation


def read_accuracy(scenes: list[Scene], degrade) -> float:
    return float(np.mean([content(read(degrade(draw(scene)))) == content(scene) for scene in scenes]))


def sample_scenes(seed: int, count: int) -> list[Scene]:
    """Samples scenes, every tenth of a held-out pair, because reading must not depend on the split."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, held_out=number % 10 == 0) for number in range(count)]


def test_read_is_accurate_on_rendered_images():
    assert read_accuracy(sample_scenes(0, 2000), lambda image: image) >= 0.995


def blur(image: np.ndarray) -> np.ndarray:
    """Blurs with a Gaussian kernel of size 3 and sigma 0.6."""
    taps = np.exp(-np.square([-1.0, 0.0, 1.0]) / (2 * 0.6**2))
    taps /= taps.sum()
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = sum(tap * padded[i : i + 256] for i, tap in enumerate(taps))
    return np.round(sum(tap * rows[:, i : i + 256] for i, tap in enumerate(taps))).astype(np.uint8)


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(int(image.sum())).normal(0.0, 5.0, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def upsampled(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(thumbnail(image)).resize((256, 256), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("degrade", [blur, noisy, upsampled])
def test_read_is_accurate_on_mildly_degraded_images(degrade):
    assert read_accuracy(sample_scenes(1, 200), degrade) >= 0.99


def test_read_recovers_positions_and_half_extents():
    for scene in sample_scenes(2, 100):
        actual, expected = (
            sorted(each.objects, key=lambda item: (item.colour, item.shape, item.x))
            for each in (read(draw(scene)), scene)
        )
        for item, true in zip(actual, expected, strict=True):
            assert abs(item.x - true.x) < 1.5 and abs(item.y - true.y) < 1.5
            assert abs(item.half_extent - true.half_extent) < 1.0


def empty(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return draw(Scene(scene.background, ()))


def noise(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)


def second_added(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Adds an object that may overlap the first one but is not centered on it."""
    first = scene.objects[0]
    while True:
        other = sample_scene(rng, num_objects=1).objects[0]
        far = np.hypot(other.x - first.x, other.y - first.y) > first.half_extent
        if far and other.colour != scene.background:
            return draw(dataclasses.replace(scene, objects=(first, other)))


def half_cut(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Covers the left, right, upper or lower half of the object with the background."""
    image, item = draw(scene), scene.objects[0]
    x, y = round(item.x), round(item.y)
    area = [np.s_[:, :x], np.s_[:, x:], np.s_[:y], np.s_[y:]][int(rng.integers(4))]
    image[area] = COLOURS[scene.background]
    return image


def half_outside(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Shifts the image until the border cuts the object in half."""
    image = draw(scene)
    moved = np.empty_like(image)
    moved[:] = COLOURS[scene.background]
    shift = round(scene.objects[0].x)
    moved[:, : 256 - shift] = image[:, shift:]
    return moved


UNNAMED_RGB = (
    (128, 128, 128),
    (0, 200, 200),
    (255, 150, 200),
    (120, 70, 20),
    (150, 230, 120),
    (60, 60, 60),
    (120, 120, 255),
)


def unnamed_color(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Renders the object or the background in a color that is not in the palette."""
    image = draw(scene)
    mask = (image == COLOURS[rng.choice([scene.objects[0].colour, scene.background])]).all(axis=-1)
    image[mask] = UNNAMED_RGB[int(rng.integers(len(UNNAMED_RGB)))]
    return image


@pytest.mark.parametrize("change", [empty, noise, second_added, half_cut, half_outside, unnamed_color])
def test_read_does_not_recover_the_scene_of_incorrect_images(change):
    """At most one of 50 images may be read as the scene before the change."""
    rng = np.random.default_rng(7)
    errors = 0
    for _ in range(50):
        scene = sample_scene(rng, num_objects=1)
        errors += content(read(change(scene, rng))) == content(scene)
    assert errors <= 1


def test_read_rejects_no_object_three_objects_and_stray_marks():
    positions = ((60.0, 60.0), (190.0, 60.0), (128.0, 190.0))
    three = tuple(Object("square", "red", "small", x, y, 30.0) for x, y in positions)
    assert read(draw(Scene("white", ()))) is None
    assert read(draw(Scene("white", three))) is None
    assert len(read(draw(Scene("white", three[:2]))).objects) == 2
    marked = draw(Scene("white", three[:1]))
    marked[200:210, 100:110] = 0  # 100 stray pixels are accepted, 400 are not
    assert read(marked) is not None
    marked[200:220, 100:120] = 0
    assert read(marked) is None


def test_read_rejects_object_with_two_colors():
    image = draw(Scene("white", (Object("square", "red", "large", 128.0, 128.0, 50.0),)))
    image[100:130, 100:130] = COLOURS["blue"]
    assert read(image) is None


def test_read_rejects_color_between_object_and_background():
    """Gray on black is not white, although every pixel could be the edge of a white object."""
    image = draw(Scene("black", (Object("square", "white", "large", 128.0, 128.0, 50.0),)))
    assert read(image) is not None
    image[image > 0] = 150
    image[120:150, 120:150] = 255
    assert read(image) is None


def test_read_rejects_invalid_array():
    with pytest.raises(ValueError, match=r"image must be uint8 \[256, 256, 3\], got float64 \[64, 64, 3\]"):
        read(np.zeros((64, 64, 3)))

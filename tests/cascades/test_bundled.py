"""Quality of the bundled cascade: prompt accuracy, CLIP retrieval, and agreement with its configs."""

import pathlib

import jax
import numpy as np
import pytest

import unclip_jax
from unclip_jax import experiment
from unclip_jax.cascades.folder import read_specs
from unclip_jax.cascades.sources import resolve
from unclip_jax.data.captioned_shapes.captions import full_caption
from unclip_jax.data.captioned_shapes.drawing import draw
from unclip_jax.data.captioned_shapes.reading import read
from unclip_jax.data.captioned_shapes.scene import sample_scene
from unclip_jax.experiment.config import typed
from unclip_jax.kinds import kind_of

CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs/shapes").glob("*.py"))

# (size, color, shape, background), with all shapes, colors and sizes, in combinations seen in training.
REQUESTED = (
    ("small", "red", "circle", "blue"),
    ("large", "yellow", "star", "black"),
    ("large", "blue", "square", "white"),
    ("small", "white", "ring", "purple"),
    ("large", "green", "triangle", "orange"),
    ("small", "black", "cross", "yellow"),
    ("large", "purple", "square", "green"),
    ("small", "orange", "star", "red"),
    ("large", "black", "circle", "orange"),
    ("small", "yellow", "triangle", "blue"),
    ("large", "red", "ring", "white"),
    ("large", "blue", "cross", "red"),
    ("small", "green", "circle", "black"),
    ("large", "white", "star", "green"),
    ("small", "purple", "triangle", "yellow"),
    ("large", "orange", "cross", "purple"),
)


def recognize(image):
    """Returns (size, color, shape, background) of an image with one object, otherwise None."""
    scene = read(image)
    if scene is None or len(scene.objects) != 1:
        return None
    (item,) = scene.objects
    return item.size, item.colour, item.shape, scene.background


def test_bundled_cascade_follows_most_prompts():
    cascade = unclip_jax.load_cascade("shapes", devices=jax.devices()[:1])
    prompts = [f"a {size} {color} {shape} on a {background} background" for size, color, shape, background in REQUESTED]
    images = unclip_jax.text_to_image(cascade, prompts)
    assert images.shape == (len(REQUESTED), 256, 256, 3)
    recognized = [recognize(image) for image in images]
    assert sum(actual == expected for actual, expected in zip(recognized, REQUESTED, strict=True)) >= 14, recognized


def test_bundled_clip_retrieves_images_by_caption():
    rng = np.random.default_rng(2026)
    scenes = [sample_scene(rng) for _ in range(64)]
    clip = unclip_jax.load_clip("shapes")
    image = unclip_jax.encode_image(clip, np.stack([draw(scene) for scene in scenes]))
    text = unclip_jax.encode_text(clip, [full_caption(scene, rng).text for scene in scenes])
    image, text = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (image, text))
    cosine = image @ text.T
    own = np.arange(len(scenes))
    assert np.mean(np.argmax(cosine, axis=0) == own) >= 0.9
    assert np.mean(np.argmax(cosine, axis=1) == own) >= 0.9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_bundled_stage_matches_its_config(path):
    config = typed(experiment.load_config(path))
    spec = read_specs(resolve("shapes"))[path.stem]
    assert kind_of(spec).build(spec, where=path.stem) == config.build(np.float32)
    assert spec.kind == config.stage.kind and spec.low_res_size == config.stage.low_res_size
    assert spec.diffusion == config.stage.diffusion
    assert spec.sampling == config.stage.sampling

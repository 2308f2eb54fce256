"""The bundled cascade draws what it is asked for, and its CLIP finds held-out pictures by their captions."""

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

# (size, colour, shape, background): every shape, colour and size, in pairs of shape and colour that training showed.
ASKED = (
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


def shown(picture):
    """(size, colour, shape, background) of a picture of one object; None of any other."""
    scene = read(picture)
    if scene is None or len(scene.objects) != 1:
        return None
    (item,) = scene.objects
    return item.size, item.colour, item.shape, scene.background


def test_bundled_cascade_draws_most_of_what_it_is_asked_for():
    cascade = unclip_jax.load_cascade("shapes", devices=jax.devices()[:1])
    prompts = [f"a {size} {colour} {shape} on a {background} background" for size, colour, shape, background in ASKED]
    pictures = unclip_jax.text_to_image(cascade, prompts)
    assert pictures.shape == (len(ASKED), 256, 256, 3)
    seen = [shown(picture) for picture in pictures]
    assert sum(answer == asked for answer, asked in zip(seen, ASKED, strict=True)) >= 14, seen


def test_bundled_clip_finds_pictures_by_captions():
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
def test_bundled_stage_is_what_its_config_trains(path):
    config = typed(experiment.load_config(path))
    said = read_specs(resolve("shapes"))[path.stem]
    assert kind_of(said).build(said, where=path.stem) == config.build(np.float32)
    assert said.kind == config.stage.kind and said.low_res_size == config.stage.low_res_size
    assert said.diffusion == config.stage.diffusion
    assert said.sampling == config.stage.sampling

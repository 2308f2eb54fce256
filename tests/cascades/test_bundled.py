"""The bundled CLIP knows captioned shapes: it finds held-out pictures by their captions, and captions by pictures."""

import numpy as np

import unclip_jax
from unclip_jax.data.captioned_shapes.captions import full_caption
from unclip_jax.data.captioned_shapes.drawing import draw
from unclip_jax.data.captioned_shapes.scene import sample_scene


def test_bundled_clip_finds_pictures_by_captions():
    rng = np.random.default_rng(2026)
    scenes = [sample_scene(rng) for _ in range(64)]
    clip = unclip_jax.load_clip("shapes")
    image = unclip_jax.encode_image(clip, np.stack([draw(scene) for scene in scenes]))
    text = unclip_jax.encode_text(clip, [full_caption(scene, rng).text for scene in scenes])
    image, text = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (image, text))
    cosine = image @ text.T
    own = np.arange(len(scenes))
    assert np.mean(np.argmax(cosine, axis=0) == own) >= 0.85
    assert np.mean(np.argmax(cosine, axis=1) == own) >= 0.85

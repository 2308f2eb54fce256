"""Variations of an image."""

import numpy as np
import pytest

import unclip_jax

FEW = {"decoder": 3, "upsampler_8_to_16": 1}


def cosine(a, b) -> float:
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def test_variations_match_text_to_image_with_embedding_and_empty_caption(cascade, folder, image):
    embedding = unclip_jax.encode_image(unclip_jax.load_clip(folder), image[None])
    made = unclip_jax.variations(cascade, image, count=2, seed=3, steps=FEW, decoder_scale=2.0)
    expected = unclip_jax.text_to_image(
        cascade,
        ["a red circle"],
        count=2,
        seed=3,
        steps=FEW,
        decoder_scale=2.0,
        image_embeddings=np.repeat(embedding, 2, axis=0),
        empty_caption=True,
    )
    np.testing.assert_array_equal(made, expected)
    best = unclip_jax.variations(cascade, image, seed=3, steps=FEW, sampling={"decoder": {"candidates": 6}})
    first = unclip_jax.variations(cascade, image, seed=3, steps=FEW)
    embedded = [unclip_jax.encode_image(unclip_jax.load_clip(folder), made)[0] for made in (best, first)]
    assert cosine(embedded[0], embedding[0]) > cosine(embedded[1], embedding[0]) + 1e-3
    other = unclip_jax.variations(cascade, 255 - image, count=2, seed=3, steps=FEW, decoder_scale=2.0)
    assert not np.array_equal(made, other)


def test_low_memory_releases_unused_stages_before_sampling(folder, image):
    cascade = unclip_jax.load_cascade(folder)
    live = {}
    low_memory = unclip_jax.variations(
        cascade, image, seed=3, steps=FEW, low_memory=True,
        progress=lambda stage, *_: live.setdefault(stage, [name for name, s in cascade.stages.items() if is_live(s)]),
    )  # fmt: skip
    assert live == {"decoder": ["clip", "decoder", "upsampler_8_to_16"], "upsampler_8_to_16": ["upsampler_8_to_16"]}
    expected = unclip_jax.variations(unclip_jax.load_cascade(folder), image, seed=3, steps=FEW)
    np.testing.assert_array_equal(low_memory, expected)


def is_live(stage) -> bool:
    return not any(leaf.is_deleted() for leaf in stage.device_arrays())


def test_unknown_noise_and_non_uint8_image_are_rejected(cascade, image):
    with pytest.raises(ValueError, match="Unknown noise 'inverse'. Available: fresh"):
        unclip_jax.variations(cascade, image, noise="inverse")
    with pytest.raises(ValueError, match=r"images must be uint8 .*, got float64 \[1, 12, 20, 3\]"):
        unclip_jax.variations(cascade, image / 255.0)

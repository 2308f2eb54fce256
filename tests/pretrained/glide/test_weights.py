"""Glide with GLIDE's weights, compared with outputs of GLIDE's code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained.golden_networks import (
    case,
    check_every_tensor_has_effect,
    check_output,
    check_preset,
    check_published,
    load,
    published,
    with_size,
)
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax.models.glide import Glide
from unclip_jax.pretrained.glide.weights import glide_fields, glide_rules

NAMES = ["base", "upsample", "base-inpaint", "upsample-inpaint"]


def extra_channels(golden):
    """Returns the input channels after the noisy image, or None if there are none."""
    parts = []
    if "known" in golden:
        parts += [golden["known"] * golden["known_mask"], golden["known_mask"]]
    if "low_res" in golden:
        parts += [jax.image.resize(golden["low_res"], golden["x"].shape, "bilinear")]
    return np.concatenate(parts, axis=-1) if parts else None


@functools.cache
def network(name):
    golden, config, arrays = load(f"glide-{name}")
    unseen = config["unseen"]
    heads = arrays["token_embedding.weight"].shape[1] // unseen.pop("text_head_width")
    fields = with_size(glide_fields(lazy_tensors(arrays), image_size=64), text_heads=heads, **unseen)
    call = (golden["x"], golden["t"], golden["tokens"], golden["mask"]), {"extra_channels": extra_channels(golden)}
    return case(Glide(**fields), call, arrays, glide_rules(fields), golden["answer"])


@pytest.mark.parametrize("name", NAMES)
def test_glide_matches_reference_output(name):
    check_output(network(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_affects_glide_output(name):
    check_every_tensor_has_effect(network(name))


@pytest.mark.parametrize(
    ("name", "image_size", "count"),
    [
        ("base", 64, 385_030_726),
        ("upsample", 256, 398_361_286),
        ("base-inpaint", 64, 385_037_638),
        ("upsample-inpaint", 256, 398_368_198),
    ],
)
def test_published_tensors_match_glide(name, image_size, count):
    tensors = published(f"glide-{name}")
    fields = glide_fields(tensors, image_size=image_size)
    module = Glide(**fields)
    x = jnp.zeros((1, image_size, image_size, module.in_channels))
    t, tokens = jnp.zeros(1, jnp.int32), jnp.zeros((1, module.context_length), jnp.int32)
    check_published(tensors, glide_rules(fields), module, ((x, t, tokens, tokens == 0), {}), count)
    check_preset(fields, f"glide_{name.replace('-', '_')}")

"""NoisedCLIP with GLIDE's weights, compared with outputs of GLIDE's code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.pretrained.golden_networks import (
    Case,
    check_every_tensor_has_effect,
    check_output,
    check_published,
    expected_parameters,
    load,
    published,
)
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax import parameters
from unclip_jax.models.noised_clip import NoisedCLIP
from unclip_jax.models.presets import preset
from unclip_jax.pretrained.glide.noised_clip import noised_clip_fields, noised_clip_rules, noised_clip_tensors


@functools.cache
def network():
    golden, config, arrays = load("glide-noised-clip")
    fields = noised_clip_fields(lazy_tensors(arrays))
    for tower in ("image", "text"):
        fields[f"{tower}_heads"] = fields[f"{tower}_width"] // config["unseen"]["head_width"]
    module, inputs = NoisedCLIP(**fields), (golden["x"], golden["t"], golden["tokens"])

    @jax.jit
    def run(flat):
        image, text = module.apply({"params": parameters.unflatten(flat)}, *inputs)
        return jnp.concatenate([image, text.pooled])

    reference = np.concatenate([golden["image"], golden["text"]])
    return Case(arrays, noised_clip_rules(fields), expected_parameters(module, (inputs, {})), run, reference)


def test_noised_clip_matches_reference_output():
    check_output(network())


def test_every_tensor_affects_noised_clip_output():
    check_every_tensor_has_effect(network())


def test_published_tensors_match_noised_clip():
    tensors = noised_clip_tensors(published("glide-noised-clip-image"), published("glide-noised-clip-text"))
    fields = noised_clip_fields(tensors)
    module = NoisedCLIP(**fields)
    call = (jnp.zeros((1, 64, 64, 3)), jnp.zeros(1, jnp.int32), jnp.zeros((1, 77), jnp.int32)), {}
    check_published(tensors, noised_clip_rules(fields), module, call, 86_443_776 + 71_679_488)
    assert parameters.count(expected_parameters(module, call)["image"]) == 86_443_776
    assert fields == preset("glide_noised_clip")[1]

"""NoisedCLIP with GLIDE's weights answers as GLIDE's code does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.pretrained.held import held
from tests.pretrained.peer_networks import (
    Case,
    check_answer,
    check_every_tensor_counts,
    check_published,
    expected_parameters,
    load,
    published,
)
from unclip_jax import parameters
from unclip_jax.models.noised_clip import NoisedCLIP
from unclip_jax.models.presets import preset
from unclip_jax.pretrained.glide.noised_clip import noised_clip_fields, noised_clip_rules, noised_clip_tensors


@functools.cache
def network():
    golden, config, arrays = load("glide-noised-clip")
    fields = noised_clip_fields(held(arrays))
    for tower in ("image", "text"):
        fields[f"{tower}_heads"] = fields[f"{tower}_width"] // config["unseen"]["head_width"]
    module, inputs = NoisedCLIP(**fields), (golden["x"], golden["t"], golden["tokens"])

    @jax.jit
    def answer(flat):
        image, text = module.apply({"params": parameters.unflatten(flat)}, *inputs)
        return jnp.concatenate([image, text.pooled])

    right = np.concatenate([golden["image"], golden["text"]])
    return Case(arrays, noised_clip_rules(fields), expected_parameters(module, (inputs, {})), answer, right)


def test_network_answers_as_its_origin():
    check_answer(network())


def test_every_tensor_counts():
    check_every_tensor_counts(network())


def test_every_published_tensor_has_its_place():
    tensors = noised_clip_tensors(published("glide-noised-clip-image"), published("glide-noised-clip-text"))
    fields = noised_clip_fields(tensors)
    module = NoisedCLIP(**fields)
    call = (jnp.zeros((1, 64, 64, 3)), jnp.zeros(1, jnp.int32), jnp.zeros((1, 77), jnp.int32)), {}
    check_published(tensors, noised_clip_rules(fields), module, call, 86_443_776 + 71_679_488)
    assert parameters.count(expected_parameters(module, call)["image"]) == 86_443_776
    assert fields == preset("glide_noised_clip")[1]

"""NoisedClassifier with guided-diffusion's weights, compared with outputs of guided-diffusion's code."""

import functools

import jax.numpy as jnp
import pytest

from tests.pretrained.golden_networks import (
    case,
    check_every_tensor_has_effect,
    check_output,
    check_preset,
    check_published,
    load,
    published,
)
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax.models.noised_classifier import NoisedClassifier
from unclip_jax.pretrained.guided_diffusion.classifier import FILE_SETTINGS, classifier_fields, classifier_rules

NAMES = ["classifier", "classifier-deep"]


@functools.cache
def network(name):
    golden, config, arrays = load(f"guided-diffusion-{name}")
    fields = classifier_fields(lazy_tensors(arrays), **config["unseen"])
    call = (golden["x"], golden["t"]), {}
    return case(NoisedClassifier(**fields), call, arrays, classifier_rules(fields), golden["answer"])


@pytest.mark.parametrize("name", NAMES)
def test_noised_classifier_matches_reference_output(name):
    check_output(network(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_affects_noised_classifier_output(name):
    check_every_tensor_has_effect(network(name))


@pytest.mark.parametrize(("size", "count"), [(64, 65_438_568), (128, 42_568_040), (256, 54_096_360), (512, 54_448_360)])
def test_published_tensors_match_noised_classifier(size, count):
    tensors = published(f"guided-diffusion-{size}-classifier")
    fields = classifier_fields(tensors, **FILE_SETTINGS[f"{size}x{size}_classifier"])
    call = (jnp.zeros((1, size, size, 3)), jnp.zeros(1, jnp.int32)), {}
    check_published(tensors, classifier_rules(fields), NoisedClassifier(**fields), call, count)
    check_preset(fields, f"guided_diffusion_{size}_classifier")


@pytest.mark.parametrize("image_size", [4, 32, 48, 256])
def test_image_size_that_does_not_match_attention_pool_is_rejected(image_size):
    message = f"image_size must match a classifier with 20 input_blocks and .* pool of 8 x 8 pixels, got {image_size}"
    with pytest.raises(ValueError, match=message):
        classifier_fields(published("guided-diffusion-64-classifier"), image_size=image_size)

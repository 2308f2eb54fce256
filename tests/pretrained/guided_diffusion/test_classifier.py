"""NoisedClassifier with guided-diffusion's weights answers as guided-diffusion's code does."""

import functools

import jax.numpy as jnp
import pytest

from tests.pretrained.held import held
from tests.pretrained.peer_networks import (
    case,
    check_answer,
    check_every_tensor_counts,
    check_preset,
    check_published,
    load,
    published,
)
from unclip_jax.models.noised_classifier import NoisedClassifier
from unclip_jax.pretrained.guided_diffusion.classifier import UNSEEN, classifier_fields, classifier_rules

NAMES = ["classifier", "classifier-deep"]


@functools.cache
def network(name):
    golden, config, arrays = load(f"guided-diffusion-{name}")
    fields = classifier_fields(held(arrays), **config["unseen"])
    call = (golden["x"], golden["t"]), {}
    return case(NoisedClassifier(**fields), call, arrays, classifier_rules(fields), golden["answer"])


@pytest.mark.parametrize("name", NAMES)
def test_network_answers_as_its_origin(name):
    check_answer(network(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_counts(name):
    check_every_tensor_counts(network(name))


@pytest.mark.parametrize(("size", "count"), [(64, 65_438_568), (128, 42_568_040), (256, 54_096_360), (512, 54_448_360)])
def test_every_published_tensor_has_its_place(size, count):
    tensors = published(f"guided-diffusion-{size}-classifier")
    fields = classifier_fields(tensors, **UNSEEN[f"{size}x{size}_classifier"])
    call = (jnp.zeros((1, size, size, 3)), jnp.zeros(1, jnp.int32)), {}
    check_published(tensors, classifier_rules(fields), NoisedClassifier(**fields), call, count)
    check_preset(fields, f"guided_diffusion_{size}_classifier")


@pytest.mark.parametrize("image_size", [4, 32, 48, 256])
def test_an_image_size_that_the_pool_cannot_have_is_refused(image_size):
    message = f"image_size must fit a classifier with 20 entries .* a pool of 8 x 8 pixels, got {image_size}"
    with pytest.raises(ValueError, match=message):
        classifier_fields(published("guided-diffusion-64-classifier"), image_size=image_size)

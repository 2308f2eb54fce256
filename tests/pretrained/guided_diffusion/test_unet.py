"""U-Net with guided-diffusion's weights, compared with outputs of guided-diffusion's code."""

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
)
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax.models.unet import UNet
from unclip_jax.pretrained.guided_diffusion.unet import (
    FILE_SETTINGS,
    NEW_ATTENTION_ORDER,
    guided_diffusion_fields,
    guided_diffusion_rules,
)

NAMES = ["labels", "new-order", "upsampler", "additive"]


@functools.cache
def network(name):
    golden, config, arrays = load(f"guided-diffusion-{name}")
    unseen = dict(config["unseen"])
    new_attention_order = unseen.pop("new_attention_order", False)
    fields = guided_diffusion_fields(lazy_tensors(arrays), **unseen)
    x = golden["x"]
    if "low_res" in golden:
        x = np.concatenate([x, jax.image.resize(golden["low_res"], x.shape, "bilinear")], axis=-1)
    labels = {"labels": golden["labels"]} if "labels" in golden else {}
    rules = guided_diffusion_rules(fields, new_attention_order=new_attention_order)
    return case(UNet(**fields), ((x, golden["t"]), labels), arrays, rules, golden["answer"])


@pytest.mark.parametrize("name", NAMES)
def test_guided_diffusion_unet_matches_reference_output(name):
    check_output(network(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_affects_guided_diffusion_unet_output(name):
    check_every_tensor_has_effect(network(name))


def test_fields_are_derived_from_shapes():
    _, config, arrays = load("guided-diffusion-new-order")
    fields = guided_diffusion_fields(lazy_tensors(arrays), image_size=8, head_channels=32)
    for ours, theirs in (("channels", "model_channels"), ("res_blocks", "num_res_blocks"), ("out_channels",) * 2):
        assert fields[ours] == config[theirs]
    assert list(fields["channel_mult"]) == config["channel_mult"]
    assert fields["attention_resolutions"] == (4, 2)
    assert (fields["num_classes"], fields["context_width"]) == (None, None)
    assert fields["scale_shift"] and fields["resblock_updown"]


@pytest.mark.parametrize(
    ("keys", "file", "name", "count"),
    [
        ("guided-diffusion-64", "64x64_diffusion", "guided_diffusion_64", 295_904_454),
        ("guided-diffusion-256-uncond", "256x256_diffusion_uncond", "guided_diffusion_256_uncond", 552_814_086),
        ("guided-diffusion-64-256-upsampler", "64_256_upsampler", "guided_diffusion_64_256_upsampler", 311_795_910),
        ("guided-diffusion-128-512-upsampler", "128_512_upsampler", "guided_diffusion_128_512_upsampler", 308_835_270),
    ],
)
def test_published_tensors_match_guided_diffusion_unet(keys, file, name, count):
    tensors = published(keys)
    fields = guided_diffusion_fields(tensors, **FILE_SETTINGS[file])
    module = UNet(**fields)
    x = jnp.zeros((1, module.image_size, module.image_size, module.in_channels))
    labels = {"labels": jnp.zeros(1, jnp.int32)} if module.num_classes else {}
    rules = guided_diffusion_rules(fields, new_attention_order=file in NEW_ATTENTION_ORDER)
    check_published(tensors, rules, module, ((x, jnp.zeros(1, jnp.int32)), labels), count)
    check_preset(fields, name)

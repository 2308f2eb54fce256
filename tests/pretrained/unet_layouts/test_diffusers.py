"""U-Net with the weights of diffusers' UNet2DModel, with blocks that Karlo does not use."""

import functools

import pytest

from tests.pretrained.golden_networks import case, check_every_tensor_has_effect, check_output, load
from unclip_jax.models.unet import UNet
from unclip_jax.pretrained.unet_layouts.diffusers import diffusers_unet_fields, diffusers_unet_rules

NAMES = ["labels", "convolutions"]
# The softmax is invariant to the bias of keys.
KEY_BIAS = ("to_k.bias",)


@functools.cache
def network(name):
    golden, config, arrays = load(f"diffusers-unet-{name}")
    fields = diffusers_unet_fields(config)
    labels = {"labels": golden["labels"]} if "labels" in golden else {}
    rules = diffusers_unet_rules(fields)
    return case(UNet(**fields), ((golden["x"], golden["t"]), labels), arrays, rules, golden["answer"], KEY_BIAS)


@pytest.mark.parametrize("name", NAMES)
def test_diffusers_unet_matches_reference_output(name):
    check_output(network(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_affects_diffusers_unet_output(name):
    check_every_tensor_has_effect(network(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn_norm_num_groups": None}, "attn_norm_num_groups must equal norm_num_groups=16, got None"),
        ({"downsample_type": "conv"}, None),  # only affects the deepest level, which does not resample
        ({"upsample_type": "conv"}, "resample in the same way, got conv, resnet"),
        ({"class_embed_type": "timestep"}, "class_embed_type must be one of None, 'identity', got 'timestep'"),
        ({"add_attention": False}, "must have attention where the down path has it"),
        ({"mid_block_type": None}, "Unknown blocks None"),
    ],
)
def test_unsupported_unet_config_is_rejected(change, message):
    _, config, _ = load("diffusers-unet-labels")
    if message is None:
        assert diffusers_unet_fields(config | change) == diffusers_unet_fields(config)
        return
    with pytest.raises(ValueError, match=message):
        diffusers_unet_fields(config | change)

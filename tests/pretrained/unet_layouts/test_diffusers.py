"""The U-Net with the weights of a UNet2DModel answers as diffusers does, in forms that Karlo has not."""

import functools

import pytest

from tests.pretrained.peer_networks import case, check_answer, check_every_tensor_counts, load
from unclip_jax.models.unet import UNet
from unclip_jax.pretrained.unet_layouts.diffusers import diffusers_unet_fields, diffusers_unet_rules

NAMES = ["labels", "convolutions"]
# The same number is added to every product of a query with a key, and the softmax takes it away.
KEY_BIAS = ("to_k.bias",)


@functools.cache
def network(name):
    golden, config, arrays = load(f"diffusers-unet-{name}")
    fields = diffusers_unet_fields(config)
    labels = {"labels": golden["labels"]} if "labels" in golden else {}
    rules = diffusers_unet_rules(fields)
    return case(UNet(**fields), ((golden["x"], golden["t"]), labels), arrays, rules, golden["answer"], KEY_BIAS)


@pytest.mark.parametrize("name", NAMES)
def test_network_answers_as_its_origin(name):
    check_answer(network(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_counts(name):
    check_every_tensor_counts(network(name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attn_norm_num_groups": None}, "attn_norm_num_groups must be norm_num_groups, which is 16, got None"),
        ({"downsample_type": "conv"}, None),  # of the deepest level, which does not resample
        ({"upsample_type": "conv"}, "resample with the same blocks, got conv, resnet"),
        ({"class_embed_type": "timestep"}, "class_embed_type must be one of None, 'identity', got 'timestep'"),
        ({"add_attention": False}, "must have attention at the levels of the down path"),
        ({"mid_block_type": None}, "Unknown blocks None"),
    ],
)
def test_a_configuration_that_is_another_network_is_refused(change, said):
    _, config, _ = load("diffusers-unet-labels")
    if said is None:
        assert diffusers_unet_fields(config | change) == diffusers_unet_fields(config)
        return
    with pytest.raises(ValueError, match=said):
        diffusers_unet_fields(config | change)

"""Prior, decoder and upsampler with Karlo's weights, compared with outputs of Karlo's code and of diffusers."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.pretrained.golden_networks import (
    TOLERANCE,
    case,
    check_every_tensor_has_effect,
    check_output,
    check_preset,
    check_published,
    load,
    published,
    relative,
    text_of,
    with_size,
)
from tests.pretrained.lazy_tensors import lazy_tensors
from unclip_jax.models.clip import TextFeatures
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.upsampler import Upsampler
from unclip_jax.pretrained.karlo import diffusers as karlo_diffusers
from unclip_jax.pretrained.karlo import original as karlo
from unclip_jax.pretrained.layer_rules import with_prefix

# The softmax is invariant to the bias of keys.
KEY_BIAS = ("attn1.to_k.bias",)


def prior():
    golden, config, arrays = load("karlo-prior")
    fields = karlo.prior_fields(lazy_tensors(arrays))
    fields["heads"] = fields["width"] // config["unseen"]["head_width"]
    call = (golden["z"], golden["t"], text_of(golden)), {}
    return case(DiffusionPrior(**fields), call, arrays, karlo.prior_rules(fields), golden["answer"])


def decoder():
    golden, config, arrays = load("karlo-decoder")
    fields = with_size(karlo.decoder_fields(lazy_tensors(arrays)), **config["unseen"])
    return case(Decoder(**fields), decoder_call(golden), arrays, karlo.decoder_rules(fields), golden["answer"])


def decoder_call(golden):
    return (golden["x"], golden["t"], golden["z"], text_of(golden)), {"drop_image": golden["drop"]}


def upsampler(which):
    golden, config, arrays = load("karlo-upsampler")
    source = {"first": karlo.UPSAMPLER_FIRST, "last": karlo.UPSAMPLER_LAST}[which]
    parts = dict(zip(("first", "last"), karlo.upsampler_parts(arrays), strict=True))
    fields = with_size(karlo.upsampler_fields(lazy_tensors(arrays), source=source), **config["unseen"])
    rules = karlo.upsampler_rules(fields, source=source)
    return case(Upsampler(**fields), upsampler_call(golden), parts[which], rules, golden[which])


def upsampler_call(golden):
    return (golden["x"], golden["t"], golden["low_res"]), {}


def diffusers_prior():
    golden, config, arrays = load("karlo-diffusers-prior")
    arrays = {name: array for name, array in arrays.items() if name not in karlo_diffusers.STATISTICS}
    fields = karlo_diffusers.prior_fields(config)
    call = (golden["z"], golden["t"], text_of(golden)), {}
    rules = karlo_diffusers.prior_rules(fields)
    return case(DiffusionPrior(**fields), call, arrays, rules, golden["answer"], KEY_BIAS)


def diffusers_decoder():
    golden, config, arrays = load("karlo-diffusers-decoder")
    arrays = karlo_diffusers.decoder_tensors(with_prefix(arrays, "decoder."), with_prefix(arrays, "text_proj."))
    fields = karlo_diffusers.decoder_fields(config["decoder"], config["text_proj"])
    rules = karlo_diffusers.decoder_rules(fields)
    return case(Decoder(**fields), decoder_call(golden), arrays, rules, golden["answer"])


def diffusers_upsampler():
    golden, config, arrays = load("karlo-diffusers-upsampler")
    fields = karlo_diffusers.upsampler_fields(config)
    rules = karlo_diffusers.upsampler_rules(fields)
    return case(Upsampler(**fields), upsampler_call(golden), arrays, rules, golden["answer"])


CASES = {
    "prior": prior,
    "decoder": decoder,
    "upsampler-first": functools.partial(upsampler, "first"),
    "upsampler-last": functools.partial(upsampler, "last"),
    "diffusers-prior": diffusers_prior,
    "diffusers-decoder": diffusers_decoder,
    "diffusers-upsampler": diffusers_upsampler,
}


@functools.cache
def network(name):
    return CASES[name]()


@pytest.mark.parametrize("name", CASES)
def test_karlo_network_matches_reference_output(name):
    check_output(network(name))


@pytest.mark.parametrize("name", [name for name in CASES if name != "upsampler-last"])
def test_every_tensor_affects_karlo_network_output(name):
    check_every_tensor_has_effect(network(name))


def test_diffusers_prior_contains_embedding_statistics():
    golden, _, arrays = load("karlo-diffusers-prior")
    network, statistics = karlo_diffusers.prior_parts(lazy_tensors(arrays))
    assert set(network) == set(arrays) - {"clip_mean", "clip_std"}
    raw = golden["answer"] * statistics.std + statistics.mean
    assert relative(raw, golden["raw"]) <= TOLERANCE


def test_statistics_are_read_from_pair_of_tensors():
    pair = {"0": np.arange(3, dtype=np.float64), "1": np.ones(3, np.float32)}
    statistics = karlo.statistics(lazy_tensors(pair))
    np.testing.assert_array_equal(statistics.mean, [0, 1, 2])
    np.testing.assert_array_equal(statistics.std, [1, 1, 1])
    assert {array.dtype for array in (statistics.mean, statistics.std)} == {np.dtype(np.float32)}


def test_tensor_of_neither_upsampler_network_is_rejected():
    with pytest.raises(ValueError, match="neither network of Karlo's upsampler: ema.out.2.weight"):
        karlo.upsampler_parts({"model_last_step.out.2.weight": None, "ema.out.2.weight": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_eps": 1e-6}, "norm_eps of .* must be 1e-05, got 1e-06"),
        ({"flip_sin_to_cos": False}, "flip_sin_to_cos of .* must be True, got False"),
        ({"class_embed_type": "projection"}, "class_embed_type of .* must be 'identity', got 'projection'"),
        ({"attention_head_dim": [8, 16]}, r"attention_head_dim must be a single number, got \[8, 16\]"),
        ({"cross_attention_dim": 32}, "cross_attention_dim of .* must be 32, got 40"),
        ({"resnet_time_scale_shift": "spatial"}, "must be one of 'default', 'scale_shift', got"),
        ({"down_block_types": ["ResnetDownsampleBlock2D", "CrossAttnDownBlock2D"]}, "Unknown blocks Cross"),
        ({"up_block_types": ["ResnetUpsampleBlock2D"] * 2}, "must have attention where the down path has it"),
        (
            {"down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]},
            "resample in the same way, got conv, resnet",
        ),
    ],
)
def test_unsupported_decoder_config_is_rejected(change, message):
    _, config, _ = load("karlo-diffusers-decoder")
    with pytest.raises(ValueError, match=message):
        karlo_diffusers.decoder_fields(config["decoder"] | change, config["text_proj"])


def test_unsupported_prior_config_is_rejected():
    _, config, _ = load("karlo-diffusers-prior")
    for change in ({"added_emb_type": None}, {"embedding_proj_dim": 12}, {"norm_in_type": "layer"}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} of the network must be .*, got"):
            karlo_diffusers.prior_fields(config | change)


def zeros(module):
    """Returns the arguments of a full-size network."""
    t = jnp.zeros(1, jnp.int32)
    text = TextFeatures(jnp.zeros((1, 768)), jnp.zeros((1, 77, 768)), jnp.ones((1, 77), bool))
    if isinstance(module, DiffusionPrior):
        return (jnp.zeros((1, 768)), t, text), {}
    x = jnp.zeros((1, module.image_size, module.image_size, 3))
    return ((x, t, jnp.zeros((1, 768)), text) if isinstance(module, Decoder) else (x, t, x)), {}


def check_published_network(tensors, fields, rules, module_class, name, count):
    module = module_class(**fields)
    check_published(tensors, rules, module, zeros(module), count)
    check_preset(fields, name)


def test_published_tensors_match_original_prior():
    tensors = published("karlo-prior")
    fields = karlo.prior_fields(tensors)
    rules = karlo.prior_rules(fields)
    check_published_network(tensors, fields, rules, DiffusionPrior, "karlo_prior", 1_022_028_544)


def test_published_tensors_match_original_decoder():
    tensors = published("karlo-decoder")
    fields = karlo.decoder_fields(tensors)
    check_published_network(tensors, fields, karlo.decoder_rules(fields), Decoder, "karlo_decoder", 893_318_086)


def test_published_tensors_match_original_upsampler():
    both = published("karlo-upsampler") | published("karlo-upsampler-last")
    for tensors, source in zip(karlo.upsampler_parts(both), (karlo.UPSAMPLER_FIRST, karlo.UPSAMPLER_LAST), strict=True):
        fields = karlo.upsampler_fields(tensors, source=source)
        rules = karlo.upsampler_rules(fields, source=source)
        check_published_network(tensors, fields, rules, Upsampler, "karlo_upsampler", 691_579_523)


def test_published_tensors_match_diffusers_prior():
    tensors = published("karlo-diffusers-prior")
    config = {"num_attention_heads": 32, "attention_head_dim": 64, "num_layers": 20, "embedding_dim": 768}
    fields = karlo_diffusers.prior_fields({**config, "num_embeddings": 77})
    tensors = {name: tensor for name, tensor in tensors.items() if name not in karlo_diffusers.STATISTICS}
    rules = karlo_diffusers.prior_rules(fields)
    check_published_network(tensors, fields, rules, DiffusionPrior, "karlo_prior", 1_022_028_544)


# Sizes of Karlo in diffusers' layout. All other settings are the defaults of the classes.
UNET = {"block_out_channels": [320, 640, 960, 1280], "layers_per_block": 3}
DECODER = {
    **UNET, "_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 3, "out_channels": 6,
    "down_block_types": ["ResnetDownsampleBlock2D", *3 * ["SimpleCrossAttnDownBlock2D"]],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": [*3 * ["SimpleCrossAttnUpBlock2D"], "ResnetUpsampleBlock2D"],
    "cross_attention_dim": 1536, "attention_head_dim": 64, "class_embed_type": "identity",
    "resnet_time_scale_shift": "scale_shift",
}  # fmt: skip
TEXT_PROJ = {
    "clip_extra_context_tokens": 4, "clip_embeddings_dim": 768, "time_embed_dim": 1280, "cross_attention_dim": 1536
}  # fmt: skip
SUPER_RES = {
    **UNET, "_class_name": "UNet2DModel", "sample_size": 256, "in_channels": 6, "out_channels": 3,
    "down_block_types": 4 * ["ResnetDownsampleBlock2D"], "up_block_types": 4 * ["ResnetUpsampleBlock2D"],
    "add_attention": False,
}  # fmt: skip


def test_published_tensors_match_diffusers_decoder():
    tensors = karlo_diffusers.decoder_tensors(
        published("karlo-diffusers-decoder"), published("karlo-diffusers-text-proj")
    )
    fields = karlo_diffusers.decoder_fields(DECODER, TEXT_PROJ)
    rules = karlo_diffusers.decoder_rules(fields)
    check_published_network(tensors, fields, rules, Decoder, "karlo_decoder", 893_318_086)


def test_published_tensors_match_diffusers_upsampler():
    tensors = published("karlo-diffusers-upsampler")
    fields = karlo_diffusers.upsampler_fields(SUPER_RES)
    rules = karlo_diffusers.upsampler_rules(fields)
    check_published_network(tensors, fields, rules, Upsampler, "karlo_upsampler", 691_579_523)

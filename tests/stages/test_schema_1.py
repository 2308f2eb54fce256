"""Conversion of cascade folders of schema 1 to current specs."""

import numpy as np
import pytest

from unclip_jax.stages import schema_1
from unclip_jax.stages.spec import EncoderRef, from_json

SAMPLED = {"diffusion": {"schedule": "cosine"}, "sampling": {"sampler": "ddpm", "steps": 5, "scale": 2.0}}


def upgraded(index=None, **configs):
    found = schema_1.upgrade(index or {}, configs)
    return {name: from_json(name, config, where=name) for name, config in found.configs.items()}, found


def test_frozen_clip_becomes_encoder_reference_to_the_clip_stage():
    specs, found = upgraded(
        my_clip={"kind": "clip", "model": {}},
        decoder={"kind": "decoder", "model": {}, "frozen": {"clip": "abc"}, "trained": {"steps": 1}, **SAMPLED},
        diffusion_prior={"kind": "diffusion_prior", "model": {}, **SAMPLED},
    )
    assert specs["decoder"].encoders == {"clip": EncoderRef(stage="my_clip", digest="abc")}
    assert specs["diffusion_prior"].encoders == {"clip": EncoderRef(stage="my_clip", digest=None)}
    assert specs["decoder"].provenance == {"steps": 1} and specs["my_clip"].encoders == {}
    assert specs["decoder"].sampling.guidance_scale == 2.0
    assert list(found.tokenizer_stages) == ["my_clip"]


@pytest.mark.parametrize(
    ("kind", "channels", "low_res_size", "masked"),
    [
        ("upsampler", 6, 8, False),
        ("unet", 3, None, False),
        ("unet", 6, 8, False),
        ("glide", 3, None, False),
        ("glide", 6, 8, False),
        ("glide", 7, None, True),
        ("glide", 10, 8, True),
        ("decoder", 3, None, False),
    ],
)
def test_inputs_are_inferred_from_channels_and_previous_stage(kind, channels, low_res_size, masked):
    specs, _ = upgraded(
        base={"kind": "decoder", "model": {"image_size": 8}, **SAMPLED},
        above={"kind": kind, "model": {"in_channels": channels, "image_size": 16}, **SAMPLED},
    )
    spec = specs["above"]
    assert (spec.low_res_size, spec.mask_channels) == (low_res_size, masked)


def test_low_res_size_of_single_upsampler_is_inferred_from_name():
    specs, _ = upgraded(
        upsampler_64_to_256={"kind": "upsampler", "model": {}, "last_step": "params_last.safetensors", **SAMPLED}
    )
    assert specs["upsampler_64_to_256"].low_res_size == 64 and specs["upsampler_64_to_256"].last_step_params


def test_cascade_statistics_become_extras_of_the_prior():
    _, found = upgraded(
        {"embedding_statistics": {"mean": [1.0, 2.0], "std": [3.0, 4.0]}},
        diffusion_prior={"kind": "diffusion_prior", "model": {}, **SAMPLED},
        clip={"kind": "clip", "model": {}},
    )
    assert list(found.extras) == ["diffusion_prior"]
    np.testing.assert_array_equal(found.extras["diffusion_prior"]["statistics"]["std"], np.float32([3.0, 4.0]))


def test_unknown_fields_are_rejected():
    with pytest.raises(ValueError, match="decoder has no field tranied. Available: name, kind"):
        upgraded(decoder={"kind": "decoder", "model": {}, "tranied": {}, **SAMPLED})


@pytest.mark.parametrize(
    ("name", "size", "low_res_size"),
    [
        ("upsampler_16_to_64", 64, 16),  # the stage from 8 to 16 px is missing: use the name
        ("upsampler_16_to_64", 32, 8),  # the name contradicts the image size: use the previous stage
        ("sr", 32, 8),
    ],
)
def test_low_res_size_is_inferred_from_matching_name_or_previous_stage(name, size, low_res_size):
    specs, _ = upgraded(
        base={"kind": "decoder", "model": {"image_size": 8}, **SAMPLED},
        **{name: {"kind": "upsampler", "model": {"image_size": size}, **SAMPLED}},
    )
    assert specs[name].low_res_size == low_res_size


def test_low_res_size_defaults_to_a_quarter_of_the_image_size():
    specs, _ = upgraded(sr={"kind": "upsampler", "model": {"image_size": 32}, **SAMPLED})
    assert specs["sr"].low_res_size == 8

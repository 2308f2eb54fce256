"""Stage specs: conversion to and from JSON, and validation."""

import pytest

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.stages.spec import EncoderRef, StageSpec, check_stage_name, from_json

SPEC = StageSpec(
    name="decoder",
    kind="decoder",
    model={"channel_mult": (1, 2), "num_heads": None},
    encoders={"clip": EncoderRef(stage="clip", digest="abc")},
    low_res_size=(8, 12),
    mask_channels=True,
    diffusion=DiffusionSpec(clip_x0=None),
    sampling=SamplingSettings(sampler="ddim", steps=5, guidance_scale=2.0),
    last_step_params=True,
    provenance={"steps": 3},
)


def test_spec_round_trips_through_json():
    content = SPEC.to_json()
    assert content["schema"] == 2 and "name" not in content
    assert content["low_res_size"] == [8, 12] and content["encoders"] == {"clip": {"stage": "clip", "digest": "abc"}}
    assert content["diffusion"]["clip_x0"] is None  # None is kept, since it disables clipping
    parsed = from_json("decoder", content, where="config.json")
    assert parsed.to_json() == content
    assert parsed.low_res_size == (8, 12) and parsed.diffusion == SPEC.diffusion and parsed.sampling == SPEC.sampling


def test_unset_fields_are_omitted_from_json():
    content = StageSpec(name="clip", kind="clip", model={"a": 1}).to_json()
    assert content == {"schema": 2, "kind": "clip", "model": {"a": 1}}
    assert from_json("clip", content, where="x") == StageSpec(name="clip", kind="clip", model={"a": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "schema of x must be 2, got 3."),
        ({"kindd": "clip"}, "x has no field kindd. Available: name, kind, model, encoders"),
        ({"name": "other"}, "x must not contain the field name: the name of the folder"),
        ({"encoders": {"clip": {"digest": "a"}}}, "x.encoders.clip lacks stage."),
        ({"diffusion": {"schedul": "cosine"}}, "x.diffusion has no field schedul. Available: schedule, steps"),
        ({"diffusion": {"schedule": "cosin"}}, "x.diffusion.schedule must be one of"),
        ({"sampling": {"scale": 2.0}}, "x.sampling has no field scale. Available: sampler, steps, guidance_scale"),
        ({"low_res_size": "64"}, "x.low_res_size must be an integer or a list of 2 (integer) or None, got '64'."),
    ],
)
def test_invalid_content_error_is_one_line_with_location(change, message):
    with pytest.raises(ValueError) as error:
        from_json("decoder", {**SPEC.to_json(), **change}, where="x")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/a", "tokenizer", "cascade.json", "1a", "a b", "a-b", "é", None, 3]
)
def test_invalid_stage_names_are_rejected(name):
    with pytest.raises(ValueError, match="^name of a stage must"):
        check_stage_name(name)
    with pytest.raises(ValueError, match="^name of a stage must"):
        StageSpec(name=name, kind="clip", model={})


@pytest.mark.parametrize("name", ["decoder", "upsampler_16_to_64", "Base2", "_x"])
def test_identifiers_are_valid_stage_names(name):
    check_stage_name(name)

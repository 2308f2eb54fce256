"""Validation of specs by stage kinds: sections, encoders, sizes and channels."""

import dataclasses

import pytest

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.kinds import KINDS, kind_of
from unclip_jax.stages.spec import EncoderRef, StageSpec

U_NET = {"image_size": 8, "channels": 8, "channel_mult": [1], "res_blocks": 1, "groups": 4}
CLIP = {"clip": EncoderRef(stage="clip")}
DECODER = StageSpec(
    name="decoder",
    kind="decoder",
    model={
        **U_NET, "attention_resolutions": [], "head_channels": 8, "embed_dim": 4, "text_width": 4, "context_width": 8,
    },
    encoders=CLIP,
    diffusion=DiffusionSpec(),
    sampling=SamplingSettings(),
)  # fmt: skip
UPSAMPLER = StageSpec(
    name="up", kind="upsampler", model=U_NET, low_res_size=4, diffusion=DiffusionSpec(), sampling=SamplingSettings()
)
UNET = dataclasses.replace(UPSAMPLER, kind="unet", low_res_size=None)
PRIOR = StageSpec(
    name="prior",
    kind="diffusion_prior",
    model={"embed_dim": 4, "text_width": 4, "context_length": 3, "width": 8, "layers": 1, "heads": 1},
    encoders=CLIP,
    diffusion=DiffusionSpec(predicts="x0"),
    sampling=SamplingSettings(),
)


@pytest.mark.parametrize("spec", [DECODER, UPSAMPLER, UNET, PRIOR], ids=lambda spec: spec.kind)
def test_valid_spec_builds_the_network_of_its_kind(spec):
    assert type(kind_of(spec).build(spec, where="config.json")) is KINDS.choose(spec.kind).network


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (DECODER, {"diffusion": None}, "config.json lacks diffusion, which a stage of kind 'decoder' needs."),
        (DECODER, {"sampling": None, "encoders": {}}, "config.json lacks sampling, encoders.clip, which"),
        (DECODER, {"encoders": {**CLIP, "t5": CLIP["clip"]}}, "config.json.encoders has no role t5. Available: clip."),
        (DECODER, {"low_res_size": 4}, "config.json.low_res_size must be None for kind 'decoder', got 4."),
        (DECODER, {"mask_channels": True}, "config.json.mask_channels must be False for kind 'decoder'"),
        (DECODER, {"model": {**DECODER.model, "chanels": 1}}, "config.json.model has no field chanels. Available:"),
        (DECODER, {"sampling": SamplingSettings(steps=2000)}, "steps of decoder must be between 1 and 1000, got 2000"),
        (UPSAMPLER, {"low_res_size": None}, "config.json.low_res_size must be set for kind 'upsampler', got None."),
        (UPSAMPLER, {"encoders": CLIP}, "config.json.encoders has no role clip. Available: none."),
        (UNET, {"low_res_size": 4}, "model.in_channels of up must be 6 with low_res_size 4, got 3."),
        (PRIOR, {"diffusion": DiffusionSpec()}, "diffusion.predicts of prior must be 'x0', got 'eps'"),
    ],
)  # fmt: skip
def test_invalid_spec_error_is_one_line(spec, change, message):
    with pytest.raises(ValueError) as error:
        kind_of(spec).build(dataclasses.replace(spec, **change), where="config.json")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("in_channels", "low_res_size", "mask_channels"), [(3, None, False), (6, 4, False), (7, None, True), (10, 4, True)]
)
def test_glide_in_channels_must_match_its_inputs(in_channels, low_res_size, mask_channels):
    model = {
        **U_NET, "attention_resolutions": [], "head_channels": 8, "vocab_size": 9, "context_length": 3, "text_width": 8,
        "text_layers": 1, "text_heads": 1, "in_channels": in_channels,
    }  # fmt: skip
    spec = dataclasses.replace(
        UPSAMPLER, kind="glide", model=model, low_res_size=low_res_size, mask_channels=mask_channels
    )
    kind_of(spec).build(spec, where="x")
    with pytest.raises(ValueError, match="model.in_channels of up must be"):
        kind_of(spec).build(dataclasses.replace(spec, mask_channels=not mask_channels), where="x")


def test_unknown_kind_error_lists_available_kinds():
    with pytest.raises(ValueError, match="^Unknown stage kind 'vae' in stage 'up'. Available: clip, diffusion_prior"):
        kind_of(dataclasses.replace(UNET, kind="vae"))

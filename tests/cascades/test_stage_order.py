"""Execution order of stages, which depends on outputs and image sizes only; and validation of requests."""

import dataclasses

import jax
import numpy as np
import pytest

import unclip_jax
from tests.cascades import tiny
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.image_stages import image_stages
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.stages.spec import EncoderRef


def renamed(cascade: Cascade, name: str, new: str, **changes) -> Cascade:
    """Returns the cascade with a renamed copy of a stage appended."""
    stage = cascade.stages[name]
    copy = dataclasses.replace(stage, spec=dataclasses.replace(stage.spec, name=new, **changes))
    return dataclasses.replace(cascade, stages={**cascade.stages, new: copy})


def test_loaded_stages_are_in_execution_order(folder):
    names = list(tiny.CONFIGS)
    opened = load_cascade(folder, stages=names[::-1], devices=jax.local_devices()[:1])
    assert list(opened.stages) == names


def test_second_decoder_runs_when_selected_by_stop_after(cascade):
    two = renamed(cascade, "decoder", "other")
    chain = [stage.name for stage in image_stages(two)]
    assert chain == ["decoder", "upsampler_8_to_16"]
    assert [stage.name for stage in image_stages(two, "other")] == ["other"]
    made = unclip_jax.text_to_image(two, ["a ring"], stop_after="other", steps={"prior": 1, "other": 1})
    assert made.shape == (1, 8, 8, 3)


def test_mismatched_sizes_are_rejected_only_if_the_stage_runs(cascade):
    stages = renamed(cascade, "upsampler_8_to_16", "x", low_res_size=4).stages
    kept = {name: stage for name, stage in stages.items() if name != "upsampler_8_to_16"}
    broken = dataclasses.replace(cascade, stages=kept)
    with pytest.raises(ValueError, match="^low_res_size of x must be 8, the size of decoder's images, got 4.$"):
        unclip_jax.text_to_image(broken, ["a ring"])
    few = {"prior": 1, "decoder": 1}
    assert unclip_jax.text_to_image(broken, ["a ring"], stop_after="decoder", steps=few).shape == (1, 8, 8, 3)


def test_prior_of_different_encoder_is_skipped(cascade):
    other = {"clip": EncoderRef(stage="other_clip")}
    two = renamed(renamed(cascade, "clip", "other_clip"), "diffusion_prior", "a_prior", encoders=other)
    first = {"clip": two.stages["clip"], "a_prior": two.stages["a_prior"], **two.stages}
    two = dataclasses.replace(two, stages=first)
    steps = {"diffusion_prior": 1, "decoder": 1, "upsampler_8_to_16": 1}
    assert len(unclip_jax.text_to_image(two, ["a ring"], steps=steps)) == 1  # the first prior that fits
    with pytest.raises(ValueError, match="^prior must sample embeddings of clip, got a_prior"):
        unclip_jax.text_to_image(two, ["a ring"], prior="a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1.5}, "seed must be an integer, got 1.5."),
        ({"seed": True}, "seed must be an integer, got True."),
        ({"seed": [1, 2]}, "seed must be one integer or one for each of the 1 inputs, got 2."),
        ({"first_image": 0.5}, "first_image must be an integer, got 0.5."),
        ({"first_image": "1"}, "first_image must be an integer, got '1'."),
        ({"count": 1.5}, "count must be an integer, got 1.5."),
    ],
)
def test_non_integer_arguments_are_rejected(cascade, arguments, message):
    with pytest.raises(ValueError) as error:
        unclip_jax.text_to_image(cascade, ["a ring"], **arguments)
    assert str(error.value) == message


def test_array_integers_and_none_settings_are_accepted(cascade):
    steps = {"prior": 1, "decoder": 1, "upsampler_8_to_16": 1}
    right = unclip_jax.text_to_image(cascade, ["a ring"], seed=3, steps=steps)
    for seed in (np.asarray(3), np.int64(3), jax.numpy.asarray(3), [np.int32(3)]):
        made = unclip_jax.text_to_image(
            cascade, ["a ring"], seed=seed, count=np.int64(1), steps=steps, sampling={"decoder": None}
        )
        np.testing.assert_array_equal(made, right)


def test_deprecated_names_warn(cascade, folder):
    steps = {"prior": 1, "decoder": 1, "upsampler_8_to_16": 1}
    right = unclip_jax.text_to_image(cascade, ["a ring"], decoder_scale=2.0, steps=steps)
    with pytest.warns(DeprecationWarning, match="sampling field 'scale' is now called 'guidance_scale'."):
        made = unclip_jax.text_to_image(cascade, ["a ring"], sampling={"decoder": {"scale": 2.0}}, steps=steps)
    np.testing.assert_array_equal(made, right)
    used_up = load_cascade(folder, devices=jax.local_devices()[:1])
    with pytest.warns(DeprecationWarning, match="free= is now called low_memory=."):
        unclip_jax.text_to_image(used_up, ["a ring"], steps=steps, free=True)
    assert all(array.is_deleted() for stage in used_up.stages.values() for array in stage.device_arrays())

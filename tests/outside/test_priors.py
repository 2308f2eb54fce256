"""Cascades with a second prior, defined in another package."""

import json

import jax
import numpy as np
import pytest

import unclip_jax
from tests.outside import mean_prior
from tests.outside.helpers import TEXT, add_stage, only_line
from unclip_jax import images, kinds
from unclip_jax.__main__ import main
from unclip_jax.cascades.text_to_image import sample_prior, text_to_image

pytestmark = pytest.mark.usefixtures("one_device", "tables")

MEAN_PRIOR = {
    "model": TEXT,
    "diffusion": {"predicts": "x0", "clip_x0": None},
    "sampling": {"sampler": "ddim", "steps": 3, "guidance_scale": 1.0},
    "encoders": {"clip": {"stage": "clip"}},
}


@pytest.fixture
def two_priors(copy):
    kinds.register(mean_prior.KIND)
    add_stage(copy, "mean_prior", "mean_prior", MEAN_PRIOR)
    return copy


def mean_embeddings(cascade, prompts):
    """Returns the closed form of the samples without guidance."""
    mean = jax.device_get(cascade.stages["mean_prior"].params["mean"])
    return unclip_jax.encode_text(cascade.stages["clip"], prompts) @ mean["kernel"] + mean["bias"]


def test_prior_can_be_selected_by_full_or_short_name(two_priors):
    cascade, prompts = unclip_jax.load_cascade(two_priors), ["a red circle", "a green ring"]
    assert [stage.name for stage in cascade.stages_producing("embedding")] == ["diffusion_prior", "mean_prior"]
    z = mean_embeddings(cascade, prompts)
    first = text_to_image(cascade, prompts)
    expected = text_to_image(cascade, prompts, image_embeddings=z)
    np.testing.assert_array_equal(text_to_image(cascade, prompts, prior="diffusion"), first)
    for name in ("mean_prior", "mean"):
        np.testing.assert_allclose(sample_prior(cascade, prompts, prior=name), z, rtol=1e-4, atol=1e-4)
        ran = []
        made = text_to_image(cascade, prompts, prior=name, progress=lambda stage, *_, ran=ran: ran.append(stage))
        assert np.max(np.abs(made.astype(int) - expected)) <= 1 and "diffusion_prior" not in ran
    assert np.max(np.abs(first.astype(int) - expected)) > 10
    with pytest.raises(
        ValueError, match="prior must be one of diffusion_prior, mean_prior, diffusion, mean, got 'ar'."
    ):
        text_to_image(cascade, prompts, prior="ar")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_first_prior_is_on_devices(two_priors, dtype):
    cascade = unclip_jax.load_cascade(two_priors, dtype=dtype)
    held = {name: len(stage.device_arrays()) for name, stage in cascade.stages.items()}
    assert held.pop("mean_prior") == 0 and min(held.values()) > 0
    prompts = ["a red circle", "a green ring"]
    alone = unclip_jax.load_cascade(two_priors, stages=["clip", "mean_prior", "decoder"], dtype=dtype)
    assert len(alone.stages["mean_prior"].device_arrays()) == 2
    made, expected = (text_to_image(one, prompts, prior="mean", stop_after="decoder") for one in (cascade, alone))
    np.testing.assert_array_equal(made, expected)
    assert not cascade.stages["mean_prior"].device_arrays()  # back on the host after the call


def test_prior_scale_steps_and_candidates_apply_to_the_chosen_prior(two_priors):
    """With guidance, the embedding is u + s (c - u), for the embeddings c of the caption and u of the empty caption."""
    cascade = unclip_jax.load_cascade(two_priors)
    c, u = mean_embeddings(cascade, ["a red circle", ""])
    expected = text_to_image(cascade, ["a red circle"], image_embeddings=(u + 4.0 * (c - u))[None])
    seen = []
    made = text_to_image(
        cascade, ["a red circle"], prior="mean", prior_scale=4.0, steps={"prior": 7}, candidates=2,
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    assert np.max(np.abs(made.astype(int) - expected)) <= 1
    assert ("mean_prior", 7, 7) in seen


@pytest.mark.parametrize("flags", [[], ["--prior", "mean"], ["--prior", "mean_prior"]])
def test_command_loads_and_runs_only_the_selected_prior(two_priors, tmp_path, monkeypatch, capsys, flags):
    used, other = ("mean_prior", "diffusion_prior") if flags else ("diffusion_prior", "mean_prior")
    expected = text_to_image(unclip_jax.load_cascade(two_priors), ["a red circle"], prior=used)
    load, opened = unclip_jax.load_cascade, []
    monkeypatch.setattr(unclip_jax, "load_cascade", lambda *a, **b: opened.append(load(*a, **b)) or opened[0])
    arguments = ["--cascade", str(two_priors), "--out", str(tmp_path / "made.png")]
    assert main(["generate", "a red circle", *arguments, *flags]) == 0
    assert set(opened[0].stages) == {"clip", used, "decoder", "upsampler_8_to_16"}
    np.testing.assert_array_equal(images.read_image(tmp_path / "made.png"), expected[0])
    assert other not in json.loads(images.read_png_metadata(tmp_path / "made.png")["settings"])
    assert main(["generate", "a red circle", *arguments, "--prior", "ar"]) == 2
    assert "prior must be one of diffusion_prior, mean_prior, diffusion, mean, got 'ar'." in only_line(capsys)

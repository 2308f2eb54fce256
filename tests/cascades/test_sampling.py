"""Sampling with a cascade: no recompilation, no repeated transfers, seeds and chunks."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.sampling.example_transforms import fill, nudge_images
from unclip_jax.cascades.text_to_image import text_to_image
from unclip_jax.sampling import diffusion, rows
from unclip_jax.sampling.transforms import DenoiserTransform, SamplerTransform


@pytest.fixture
def compilations():
    """Records every compilation, including loads from the persistent cache."""
    recorded = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            recorded.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return recorded


PROMPTS = ["a red circle", "a green ring", "a star"]


def transforms(row: float, shared: float) -> dict:
    """Returns a denoiser and a sampler transform of the decoder, with one row per image."""
    rows = np.full((3, 3), row, np.float32)
    return {
        "denoiser_transforms": {"decoder": [DenoiserTransform(fill, rows=rows)]},
        "sampler_transforms": {"decoder": [SamplerTransform(nudge_images, rows=rows, shared=np.float32(shared))]},
    }


def test_changing_scale_seed_prompts_or_steps_does_not_recompile(cascade, compilations):
    text_to_image(cascade, PROMPTS, seed=0)
    before = len(compilations)
    for prompts, settings in (
        (["a blue ring", "a red star", "a cross"], {}),
        (PROMPTS, {"seed": 5, "first_image": 7}),
        (PROMPTS, {"seed": [5, 6, 5]}),
        (PROMPTS, {"prior_scale": 3.0, "decoder_scale": 7.5}),
        (PROMPTS, {"steps": {"prior": 17, "decoder": 2, "upsampler_8_to_16": 9}}),
        ([*PROMPTS, "a cross"], {}),
    ):
        text_to_image(cascade, prompts, **settings)
        assert len(compilations) == before, settings
    text_to_image(cascade, PROMPTS, decoder_scale=1.0)
    assert len(compilations) > before  # sampling without guidance compiles, which checks the counter


def test_changing_transform_arrays_does_not_recompile(cascade, compilations):
    text_to_image(cascade, PROMPTS)
    before = len(compilations)
    text_to_image(cascade, PROMPTS, **transforms(0.0, 0.1))
    first = len(compilations)
    assert first > before
    for arguments in (transforms(0.5, 0.1), transforms(0.0, 0.3), {**transforms(-1.0, 0.0), "decoder_scale": 5.0}):
        text_to_image(cascade, PROMPTS, **arguments)
        assert len(compilations) == first


def test_seed_per_prompt_matches_separate_calls(cascade):
    """The image index counts over all prompts of a call."""
    both = text_to_image(cascade, PROMPTS[:2], seed=[3, 5], count=2, candidates=2)
    apart = [
        text_to_image(cascade, [prompt], seed=seed, first_image=first, count=2, candidates=2)
        for prompt, seed, first in ((PROMPTS[0], 3, 0), (PROMPTS[1], 5, 2))
    ]
    assert np.max(np.abs(both.astype(int) - np.concatenate(apart))) <= 1
    same = text_to_image(cascade, PROMPTS[:2], seed=[3, 3], count=2, candidates=2)
    np.testing.assert_array_equal(same, text_to_image(cascade, PROMPTS[:2], seed=3, count=2, candidates=2))
    assert np.max(np.abs(both[2:].astype(int) - same[2:])) > 10
    decoder = {"sampling": {"decoder": {"candidates": 3}}}
    both = text_to_image(cascade, PROMPTS[:2], seed=[3, 5], **decoder)
    second = text_to_image(cascade, PROMPTS[1:2], seed=5, first_image=1, **decoder)
    assert np.max(np.abs(both[1:].astype(int) - second)) <= 1


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ([1], "seed must be one integer or one for each of the 2 inputs, got 1."),
        ([1, -1], "seed must be from 0 to 4294967295, got -1."),
    ],
)
def test_invalid_seed_list_is_rejected(cascade, seed, message):
    with pytest.raises(ValueError, match=message):
        text_to_image(cascade, PROMPTS[:2], seed=seed)


def test_segments_transfer_nothing_to_the_devices(cascade, monkeypatch):
    arguments = {"prompts": ["a red circle"], "seed": 1}
    text_to_image(cascade, **arguments)  # compiles, which may transfer constants
    compiled, calls = diffusion._compiled, []

    def guarded(program):
        begin, segment = compiled(program)

        def call(*args):
            calls.append(program)
            with jax.transfer_guard("disallow"):
                return segment(*args)

        return begin, call

    monkeypatch.setattr(diffusion, "_compiled", guarded)
    text_to_image(cascade, **arguments)
    assert len(calls) == 3  # one segment per stage
    stage = cascade.stages["decoder"]
    on_host = dataclasses.replace(stage, params=jax.device_get(stage.params))
    moved = dataclasses.replace(cascade, stages={**cascade.stages, stage.name: on_host})
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        text_to_image(moved, **arguments)


def test_chunked_sampling_generates_the_same_images(cascade, monkeypatch):
    prompts = ["a red circle", "a green ring", "a star", "a cross", "a blue ring"]
    whole = text_to_image(cascade, prompts, seed=1)
    monkeypatch.setattr(rows, "ROWS_PER_DEVICE", {16: 2, 64: 2})
    chunked = text_to_image(cascade, prompts, seed=1)
    assert np.max(np.abs(whole.astype(int) - chunked.astype(int))) <= 1
    assert np.max(np.abs(whole[0].astype(int) - chunked[1].astype(int))) > 10

"""Text-to-image generation: reproducibility, settings, candidates, low memory and invalid arguments."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

import unclip_jax
from tests.cascades import tiny
from unclip_jax.cascades import generate
from unclip_jax.cascades.loading import load_cascade
from unclip_jax.cascades.text_to_image import sample_prior, text_to_image, upsample

PROMPTS = ["a red circle", "a green ring", "a small star", "a large cross", "a blue circle"]


def distance(a, b) -> int:
    return int(np.max(np.abs(np.asarray(a, int) - np.asarray(b, int))))


@pytest.fixture(scope="module")
def images(cascade):
    return text_to_image(cascade, PROMPTS, seed=3)


def test_images_are_uint8_with_size_of_last_stage(images):
    assert images.shape == (5, 16, 16, 3) and images.dtype == np.uint8
    assert np.mean((images > 2) & (images < 253)) > 0.3  # saturated images would make all comparisons trivial


def test_image_does_not_depend_on_the_batch(cascade, images):
    for index in (0, 3):
        alone = text_to_image(cascade, [PROMPTS[index]], seed=3, first_image=index)[0]
        assert distance(alone, images[index]) <= 1
        other_seed = text_to_image(cascade, [PROMPTS[index]], seed=4, first_image=index)[0]
        other_index = text_to_image(cascade, [PROMPTS[index]], seed=3, first_image=index + 1)[0]
        other_prompt = text_to_image(cascade, [PROMPTS[index - 1]], seed=3, first_image=index)[0]
        for other in (other_seed, other_index, other_prompt):
            assert distance(other, alone) > 10


def test_images_do_not_depend_on_the_number_of_devices(folder, images):
    eight = load_cascade(folder, devices=jax.local_devices()[:8])
    assert distance(text_to_image(eight, PROMPTS, seed=3), images) <= 1
    alone = text_to_image(eight, [PROMPTS[3]], seed=3, first_image=3)[0]
    assert distance(alone, images[3]) <= 1


def test_count_generates_consecutive_images_per_prompt(cascade):
    twice = text_to_image(cascade, PROMPTS[:2], count=2, seed=3)
    second_of_second = text_to_image(cascade, [PROMPTS[1]], seed=3, first_image=3)[0]
    assert distance(twice[3], second_of_second) <= 1
    assert distance(twice[2], twice[3]) > 10


@pytest.mark.parametrize(
    "setting", [{"prior_scale": 1.0}, {"decoder_scale": 5.0}, {"decoder_scale": 1.0}, {"steps": {"decoder": 20}},
                {"sampler": {"decoder": "ddim"}}, {"sampler": {"decoder": "dpm"}}, {"steps": {"decoder": "3,3"}},
                {"candidates": 16}, {"sampling": {"decoder": {"candidates": 16}}}, {"empty_caption": True},
                {"sampling": {"decoder": {"guidance_interval": (0, 500)}}},
                {"sampling": {"decoder": {"guidance_rescale": 1.0}}},
                {"sampling": {"decoder": {"variance": "fixed_large"}}},
                {"sampling": {"decoder": {"threshold": 50.0}}},
                {"sampling": {"decoder": {"threshold": 50.0, "threshold_cap": 1.1}}},
                {"sampling": {"upsampler_8_to_16": {"eta": 1.0}}}],
    ids=str,
)  # fmt: skip
def test_every_setting_changes_the_images(cascade, images, setting):
    changed = text_to_image(cascade, PROMPTS, seed=3, **setting)
    assert distance(changed, images) > 10


def test_image_embeddings_replace_the_prior(cascade, images):
    z = sample_prior(cascade, PROMPTS, seed=3)
    assert distance(text_to_image(cascade, PROMPTS, seed=3, image_embeddings=z), images) <= 1
    assert distance(text_to_image(cascade, PROMPTS, seed=3, image_embeddings=z[::-1]), images) > 10


def test_prior_keeps_candidate_closest_to_the_caption(cascade):
    """The first candidate is the same for any number of candidates, so the best cosine can only increase."""
    clip = cascade.stages["clip"]
    z_t = unclip_jax.encode_text(clip, PROMPTS)

    def cosines(candidates):
        prior = cascade.stages["diffusion_prior"]
        sampling = dataclasses.replace(prior.spec.sampling, candidates=candidates)
        changed = dataclasses.replace(prior, spec=dataclasses.replace(prior.spec, sampling=sampling))
        stages = {**cascade.stages, prior.name: changed}
        z = sample_prior(dataclasses.replace(cascade, stages=stages), PROMPTS, seed=3)
        return np.sum(z * z_t, -1) / np.linalg.norm(z, axis=-1) / np.linalg.norm(z_t, axis=-1)

    one, eight = cosines(1), cosines(8)
    assert np.all(eight >= one - 1e-5) and np.any(eight > one + 1e-3)


def decoder_candidates(candidates: int) -> dict:
    return {"sampling": {"decoder": {"candidates": candidates}}}


@pytest.mark.parametrize("empty_caption", [False, True])
def test_decoder_keeps_candidate_closest_to_caption_or_embedding(cascade, empty_caption):
    """The first candidate is the same for any number of candidates, so the best cosine can only increase."""
    clip = cascade.stages["clip"]
    z = sample_prior(cascade, PROMPTS, seed=3)
    target = z if empty_caption else unclip_jax.encode_text(clip, PROMPTS)

    def cosines(candidates):
        arguments = {"image_embeddings": z, "empty_caption": empty_caption, **decoder_candidates(candidates)}
        embedded = unclip_jax.encode_image(clip, text_to_image(cascade, PROMPTS, seed=3, **arguments))
        return np.sum(embedded * target, -1) / np.linalg.norm(embedded, axis=-1) / np.linalg.norm(target, axis=-1)

    one, eight = cosines(1), cosines(8)
    assert np.all(eight >= one - 1e-5) and np.sum(eight > one + 1e-3) > len(PROMPTS) / 2


def test_each_decoder_candidate_has_its_own_embedding(cascade, monkeypatch):
    seen, sample = {}, generate._sample

    def kept(plan, stage, conditions, *arguments):
        seen[stage.name] = conditions
        return sample(plan, stage, conditions, *arguments)

    monkeypatch.setattr(generate, "_sample", kept)
    text_to_image(cascade, PROMPTS, seed=3, stop_after="decoder", **decoder_candidates(3))
    embeddings, text = seen["decoder"].image_embedding["clip"], seen["decoder"].text["clip"]
    assert len(text.pooled) == len(embeddings) == 3 * len(PROMPTS)
    np.testing.assert_allclose(embeddings[::3], sample_prior(cascade, PROMPTS, seed=3), rtol=1e-4, atol=1e-4)
    assert len(np.unique(embeddings.round(3), axis=0)) == len(embeddings)
    np.testing.assert_array_equal(text.pooled[0], text.pooled[2])
    assert np.any(text.pooled[2] != text.pooled[3])


@pytest.mark.parametrize(("clip_size", "upsampled"), [(16, 6), (8, 2)])
def test_candidates_are_ranked_at_the_first_size_large_enough_for_clip(tmp_path, monkeypatch, clip_size, upsampled):
    monkeypatch.setitem(tiny.CONFIGS["clip"]["model"], "image_size", clip_size)
    monkeypatch.setitem(tiny.CONFIGS["clip"]["model"], "patch_size", clip_size // 2)
    cascade = load_cascade(tiny.write_tiny_cascade(tmp_path / "cascade"), devices=jax.local_devices()[:1])
    rows, sample = {}, generate._sample

    def counted(plan, stage, conditions, empty, candidates, progress):
        rows[stage.name] = plan.total * candidates
        return sample(plan, stage, conditions, empty, candidates, progress)

    monkeypatch.setattr(generate, "_sample", counted)
    made = text_to_image(cascade, PROMPTS[:2], **decoder_candidates(3))
    del rows["diffusion_prior"]
    assert rows == {"decoder": 6, "upsampler_8_to_16": upsampled} and len(made) == 2
    assert len(text_to_image(cascade, PROMPTS[:2], stop_after="decoder", **decoder_candidates(3))) == 2
    low_memory = text_to_image(cascade, PROMPTS[:2], low_memory=True, **decoder_candidates(3))
    np.testing.assert_array_equal(low_memory, made)


def test_decoder_candidates_require_clip_with_image_encoder(cascade):
    clip = cascade.stages["clip"]
    text_alone = dataclasses.replace(clip, module=clip.module.clone(image_width=None))
    cascade = dataclasses.replace(cascade, stages={**cascade.stages, "clip": text_alone})
    with pytest.raises(ValueError, match="candidates of decoder must be 1. Its CLIP has no image encoder"):
        text_to_image(cascade, PROMPTS[:1], **decoder_candidates(2))


def test_stop_after_returns_images_of_the_decoder(cascade):
    assert text_to_image(cascade, PROMPTS[:1], stop_after="decoder").shape == (1, 8, 8, 3)


def test_upsample_runs_the_upsampler_of_a_size(cascade):
    low_res = np.linspace(-1, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    assert upsample(cascade, low_res, size=16).shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match=r"size must be .*, got 64. Available: \[16\]"):
        upsample(cascade, low_res, size=64)


def test_progress_counts_every_step_of_every_stage(cascade):
    seen = []
    text_to_image(cascade, PROMPTS, progress=lambda *step: seen.append(step))
    last = {stage: (done, total) for stage, done, total in seen}
    assert last == {"diffusion_prior": (5, 5), "decoder": (6, 6), "upsampler_8_to_16": (3, 3)}


def test_unknown_words_warn_once(cascade):
    with pytest.warns(UserWarning) as caught:
        text_to_image(cascade, ["a red zebra", "a purple zebra"], steps={"decoder": 1})
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        "no training caption of the cascade contains the words: zebra, purple. The cascade generates one or two shapes."
    ]


def test_known_words_do_not_warn(cascade):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_to_image(cascade, PROMPTS)


def test_long_prompt_is_truncated_with_a_warning(cascade):
    with pytest.warns(UserWarning, match="is truncated to 14: it ends at character"):
        text_to_image(cascade, ["a red circle " * 800])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": []}, "prompts must be a non-empty list"),
        ({"prompts": ["a ring", " "]}, "of non-empty strings"),
        ({"prompts": "a ring"}, "prompts must be a list of strings, got the string 'a ring'"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"first_image": -1}, "first_image must be from 0 to 2147483647, got -1"),
        ({"first_image": 2**31}, "first_image must be from 0 to 2147483647, got 2147483648"),
        ({"steps": {"decoder": 0}}, "steps of decoder must be between 1 and 1000, got 0"),
        ({"steps": {"prior": 1001}}, "steps of diffusion_prior must be between 1 and 1000, got 1001"),
        ({"steps": {"prior": "fast28"}}, "steps of diffusion_prior: Unknown path 'fast28'"),
        ({"sampling": {"decodr": {}}}, "sampling must name stages .*, got decodr. Available: diffusion_prior, decoder"),
        ({"sampling": {"decoder": {"warmth": 1}}}, "sampling of decoder has no field warmth. Available: sampler"),
        ({"sampling": {"decoder": {"eta": "x"}}}, "eta of decoder must be a number, got 'x'"),
        ({"sampling": {"decoder": {"eta": 2.0}}}, r"eta of decoder must be in \[0, 1\], got 2.0"),
        ({"sampling": {"decoder": {"guidance_rescale": -0.1}}}, "guidance_rescale of decoder .* got -0.1"),
        ({"sampling": {"decoder": {"guidance_interval": (5, 1)}}}, r"guidance_interval of decoder .* got \(5, 1\)"),
        ({"sampling": {"decoder": {"guidance_interval": 5}}}, "guidance_interval of decoder .* two .* got 5"),
        ({"sampling": {"decoder": {"variance": "huge"}}}, "variance of decoder .* fixed_small, .* got 'huge'"),
        ({"sampling": {"decoder": {"threshold": 0.0}}}, "threshold of decoder must be a percentile .*, got 0.0"),
        ({"sampling": {"decoder": {"threshold_cap": 0.5}}}, "threshold_cap of decoder must be .*, got 0.5"),
        ({"sampling": {"prior": {"candidates": 1.5}}}, "candidates of diffusion_prior must be an integer, got 1.5"),
        ({"steps": {"decodr": 5}}, "steps must name stages .*, got decodr. Available: diffusion_prior, decoder"),
        ({"sampler": {"decoder": "euler"}}, "sampler of decoder must be one of ddpm, ddim, dpm, got 'euler'"),
        ({"candidates": 0}, "candidates of diffusion_prior must be at least 1, got 0"),
        ({"sampling": {"upsampler_8_to_16": {"candidates": 2}}}, "must be 1. Only priors and decoders"),
        ({"decoder_scale": float("nan")}, "scale of decoder must be a finite number, got nan"),
        ({"image_embeddings": np.zeros((1, 3))}, r"image_embeddings must have shape \[1, 16\], got \[1, 3\]"),
        ({"stop_after": "upsampler"}, "stop_after must be an image stage, got 'upsampler'"),
        ({"stop_after": "diffusion_prior"}, "got 'diffusion_prior'. Available: decoder, upsampler_8_to_16"),
    ],
)
def test_invalid_arguments_error_is_one_line(cascade, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        text_to_image(cascade, **{"prompts": ["a ring"], **arguments})
    assert "\n" not in str(error.value)


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())


def test_low_memory_generates_the_same_images_and_releases_all_parameters(folder, images):
    normal_bytes, low_memory_bytes = [], []
    for low_memory, measured in ((False, normal_bytes), (True, low_memory_bytes)):
        cascade = load_cascade(folder, devices=jax.local_devices()[:1])
        before = live_bytes()
        made = text_to_image(
            cascade,
            PROMPTS,
            seed=3,
            low_memory=low_memory,
            progress=lambda stage, *_, measured=measured, before=before: measured.append(
                (stage, live_bytes() - before)
            ),
        )
        np.testing.assert_array_equal(made, images)
    sizes = {name: sum(leaf.nbytes for leaf in stage.device_arrays()) for name, stage in cascade.stages.items()}
    released = {stage: normal - low for (stage, normal), (_, low) in zip(normal_bytes, low_memory_bytes, strict=True)}
    assert released == {
        "diffusion_prior": 0,
        "decoder": sizes["diffusion_prior"],
        "upsampler_8_to_16": sizes["diffusion_prior"] + sizes["clip"] + sizes["decoder"],
    }
    assert all(leaf.is_deleted() for stage in cascade.stages.values() for leaf in stage.device_arrays())


def test_cascade_is_unusable_after_low_memory_call(folder):
    cascade = load_cascade(folder, devices=jax.local_devices()[:1])
    other = dataclasses.replace(cascade, path="other")
    text_to_image(cascade, ["a ring"], stop_after="decoder", low_memory=True)
    again = (
        lambda: text_to_image(cascade, ["a ring"]),
        lambda: unclip_jax.variations(cascade, np.zeros((8, 8, 3), np.uint8)),
        lambda: sample_prior(cascade, ["a ring"]),
        lambda: upsample(cascade, np.zeros((1, 8, 8, 3)), size=16),
    )
    for call in again:
        with pytest.raises(
            ValueError, match="^cascade '.*' has released its parameters .*. Reload it with load_cascade.$"
        ):
            call()
    with pytest.raises(ValueError, match="^cascade 'other' has released its parameters"):
        text_to_image(other, ["a ring"])


def test_delete_params_except_keeps_arrays_shared_with_kept_stages(folder):
    cascade = load_cascade(folder, devices=jax.local_devices()[:1])
    decoder, upsampler = cascade.stages["decoder"], cascade.stages["upsampler_8_to_16"]
    cascade.stages["decoder"] = dataclasses.replace(decoder, last_step_params=upsampler.params)
    cascade.delete_params_except(upsampler)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(decoder.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(upsampler.params))

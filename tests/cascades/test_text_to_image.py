"""Pictures from prompts: each a function of its own number, whatever is made beside it; and what is refused."""

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
def pictures(cascade):
    return text_to_image(cascade, PROMPTS, seed=3)


def test_pictures_are_uint8_of_the_last_stage(pictures):
    assert pictures.shape == (5, 16, 16, 3) and pictures.dtype == np.uint8
    assert np.mean((pictures > 2) & (pictures < 253)) > 0.3  # or clipping would make anything equal


def test_one_picture_alone_is_that_of_the_batch(cascade, pictures):
    for number in (0, 3):
        alone = text_to_image(cascade, [PROMPTS[number]], seed=3, first_image=number)[0]
        assert distance(alone, pictures[number]) <= 1
        other_seed = text_to_image(cascade, [PROMPTS[number]], seed=4, first_image=number)[0]
        other_number = text_to_image(cascade, [PROMPTS[number]], seed=3, first_image=number + 1)[0]
        other_prompt = text_to_image(cascade, [PROMPTS[number - 1]], seed=3, first_image=number)[0]
        for other in (other_seed, other_number, other_prompt):
            assert distance(other, alone) > 10


def test_eight_devices_make_the_pictures_of_one(folder, pictures):
    eight = load_cascade(folder, devices=jax.local_devices()[:8])
    assert distance(text_to_image(eight, PROMPTS, seed=3), pictures) <= 1
    alone = text_to_image(eight, [PROMPTS[3]], seed=3, first_image=3)[0]
    assert distance(alone, pictures[3]) <= 1


def test_count_repeats_each_prompt_with_numbers_of_its_own(cascade):
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
def test_every_setting_changes_the_pictures(cascade, pictures, setting):
    changed = text_to_image(cascade, PROMPTS, seed=3, **setting)
    assert distance(changed, pictures) > 10


def test_given_embeddings_stand_in_for_the_prior(cascade, pictures):
    z = sample_prior(cascade, PROMPTS, seed=3)
    assert distance(text_to_image(cascade, PROMPTS, seed=3, image_embeddings=z), pictures) <= 1
    assert distance(text_to_image(cascade, PROMPTS, seed=3, image_embeddings=z[::-1]), pictures) > 10


def test_best_candidate_is_the_nearest_to_the_caption(cascade):
    """With more candidates the first ones stay the same, so the cosine of the best can only rise."""
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


def decoder_draws(candidates: int) -> dict:
    return {"sampling": {"decoder": {"candidates": candidates}}}


@pytest.mark.parametrize("empty_caption", [False, True])
def test_best_of_the_decoders_candidates_is_the_nearest_to_the_caption_or_to_the_embedding(cascade, empty_caption):
    """As with the prior's: the first candidate is the same, so that the cosine of the best can only rise."""
    clip = cascade.stages["clip"]
    z = sample_prior(cascade, PROMPTS, seed=3)
    wanted = z if empty_caption else unclip_jax.encode_text(clip, PROMPTS)

    def cosines(candidates):
        how = {"image_embeddings": z, "empty_caption": empty_caption, **decoder_draws(candidates)}
        seen = unclip_jax.encode_image(clip, text_to_image(cascade, PROMPTS, seed=3, **how))
        return np.sum(seen * wanted, -1) / np.linalg.norm(seen, axis=-1) / np.linalg.norm(wanted, axis=-1)

    one, eight = cosines(1), cosines(8)
    assert np.all(eight >= one - 1e-5) and np.sum(eight > one + 1e-3) > len(PROMPTS) / 2


def test_every_candidate_of_the_decoder_has_an_embedding_of_its_own_and_the_first_that_of_a_single_one(
    cascade, monkeypatch
):
    seen, sample = {}, generate._sample

    def kept(plan, stage, conditions, *arguments):
        seen[stage.name] = conditions
        return sample(plan, stage, conditions, *arguments)

    monkeypatch.setattr(generate, "_sample", kept)
    text_to_image(cascade, PROMPTS, seed=3, stop_after="decoder", **decoder_draws(3))
    embeddings, text = seen["decoder"].image_embedding["clip"], seen["decoder"].text["clip"]
    assert len(text.pooled) == len(embeddings) == 3 * len(PROMPTS)
    np.testing.assert_allclose(embeddings[::3], sample_prior(cascade, PROMPTS, seed=3), rtol=1e-4, atol=1e-4)
    assert len(np.unique(embeddings.round(3), axis=0)) == len(embeddings)
    np.testing.assert_array_equal(text.pooled[0], text.pooled[2])
    assert np.any(text.pooled[2] != text.pooled[3])


@pytest.mark.parametrize(("sees", "enlarged"), [(16, 6), (8, 2)])
def test_clip_chooses_as_soon_as_the_pictures_are_as_large_as_it_sees_them(tmp_path, monkeypatch, sees, enlarged):
    monkeypatch.setitem(tiny.CONFIGS["clip"]["model"], "image_size", sees)
    monkeypatch.setitem(tiny.CONFIGS["clip"]["model"], "patch_size", sees // 2)
    cascade = load_cascade(tiny.write_tiny_cascade(tmp_path / "cascade"), devices=jax.local_devices()[:1])
    rows, sample = {}, generate._sample

    def counted(plan, stage, conditions, empty, candidates, progress):
        rows[stage.name] = plan.total * candidates
        return sample(plan, stage, conditions, empty, candidates, progress)

    monkeypatch.setattr(generate, "_sample", counted)
    made = text_to_image(cascade, PROMPTS[:2], **decoder_draws(3))
    del rows["diffusion_prior"]
    assert rows == {"decoder": 6, "upsampler_8_to_16": enlarged} and len(made) == 2
    assert len(text_to_image(cascade, PROMPTS[:2], stop_after="decoder", **decoder_draws(3))) == 2
    freed = text_to_image(cascade, PROMPTS[:2], low_memory=True, **decoder_draws(3))
    np.testing.assert_array_equal(freed, made)


def test_a_clip_without_an_image_tower_chooses_nothing(cascade):
    clip = cascade.stages["clip"]
    text_alone = dataclasses.replace(clip, module=clip.module.clone(image_width=None))
    cascade = dataclasses.replace(cascade, stages={**cascade.stages, "clip": text_alone})
    with pytest.raises(ValueError, match="candidates of decoder must be 1: CLIP has no image tower here"):
        text_to_image(cascade, PROMPTS[:1], **decoder_draws(2))


def test_stopping_early_gives_the_decoders_pictures(cascade):
    assert text_to_image(cascade, PROMPTS[:1], stop_after="decoder").shape == (1, 8, 8, 3)


def test_upsampler_alone_answers_its_size(cascade):
    small = np.linspace(-1, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    assert upsample(cascade, small, size=16).shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match=r"size 64 is made by no upsampler.*known: \[16\]"):
        upsample(cascade, small, size=64)


def test_progress_counts_every_step_of_every_stage(cascade):
    seen = []
    text_to_image(cascade, PROMPTS, progress=lambda *step: seen.append(step))
    last = {stage: (done, total) for stage, done, total in seen}
    assert last == {"diffusion_prior": (5, 5), "decoder": (6, 6), "upsampler_8_to_16": (3, 3)}


def test_words_that_no_caption_held_give_one_warning(cascade):
    with pytest.warns(UserWarning) as caught:
        text_to_image(cascade, ["a red zebra", "a purple zebra"], steps={"decoder": 1})
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        "no caption that this cascade was trained on has the words: zebra, purple. It draws one or two shapes."
    ]


def test_known_words_and_no_truncation_warn_of_nothing(cascade):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_to_image(cascade, PROMPTS)


def test_long_prompt_is_cut_with_a_warning_that_says_where(cascade):
    with pytest.warns(UserWarning, match="is cut to 14: what follows character"):
        text_to_image(cascade, ["a red circle " * 800])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": []}, "a prompt is empty"),
        ({"prompts": ["a ring", " "]}, "a prompt is empty"),
        ({"prompts": "a ring"}, "a list of strings is wanted"),
        ({"count": 0}, "count is 0; it must be 1 or more"),
        ({"seed": -1}, "seed is -1; it must be from 0"),
        ({"first_image": -1}, "first_image is -1"),
        ({"first_image": 2**31}, "first_image is 2147483648; it must be from 0 to 2147483647"),
        ({"steps": {"decoder": 0}}, "steps of decoder is 0; it must be from 1 to 1000"),
        ({"steps": {"prior": 1001}}, "steps of diffusion_prior is 1001; it must be from 1 to 1000"),
        ({"steps": {"prior": "fast28"}}, "steps of diffusion_prior: steps is 'fast28': it must be a number, sections"),
        ({"sampling": {"decodr": {}}}, "sampling names decodr.*known: diffusion_prior, decoder, upsampler_8_to_16"),
        ({"sampling": {"decoder": {"warmth": 1}}}, "sampling of decoder names warmth; known: sampler, steps"),
        ({"sampling": {"decoder": {"eta": "x"}}}, "eta of decoder is 'x'; it must be a number"),
        ({"sampling": {"decoder": {"eta": 2.0}}}, "eta of decoder is 2.0; it must be from 0 to 1"),
        ({"sampling": {"decoder": {"guidance_rescale": -0.1}}}, "guidance_rescale of decoder is -0.1"),
        ({"sampling": {"decoder": {"guidance_interval": (5, 1)}}}, r"guidance_interval of decoder is \(5, 1\)"),
        ({"sampling": {"decoder": {"guidance_interval": 5}}}, "guidance_interval of decoder is 5; it must be two"),
        ({"sampling": {"decoder": {"variance": "huge"}}}, "variance of decoder is 'huge'; known: fixed_small"),
        ({"sampling": {"decoder": {"threshold": 0.0}}}, "threshold of decoder is 0.0; it must be a percentile"),
        ({"sampling": {"decoder": {"threshold_cap": 0.5}}}, "threshold_cap of decoder is 0.5; it must be"),
        ({"sampling": {"prior": {"candidates": 1.5}}}, "candidates of diffusion_prior is 1.5; it must"),
        ({"steps": {"decodr": 5}}, "steps names decodr.*known: diffusion_prior, decoder, upsampler_8_to_16"),
        ({"sampler": {"decoder": "euler"}}, "sampler of decoder is 'euler'; known: ddpm, ddim, dpm"),
        ({"candidates": 0}, "candidates of diffusion_prior is 0"),
        ({"sampling": {"upsampler_8_to_16": {"candidates": 2}}}, "candidates of upsampler_8_to_16 must be 1: several"),
        ({"decoder_scale": float("nan")}, "scale of decoder is nan"),
        ({"image_embeddings": np.zeros((1, 3))}, r"image_embeddings are \[1, 3\]; \[1, 16\] is wanted"),
        ({"stop_after": "upsampler"}, "stop_after names upsampler"),
        ({"stop_after": "diffusion_prior"}, "makes no picture here; known: decoder, upsampler_8_to_16"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(cascade, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        text_to_image(cascade, **{"prompts": ["a ring"], **arguments})
    assert "\n" not in str(error.value)


def live_bytes() -> int:
    return sum(array.nbytes for array in jax.live_arrays())


def test_stages_that_are_freed_draw_the_same_and_leave_nothing(folder, pictures):
    held, freed = [], []
    for free, seen in ((False, held), (True, freed)):
        cascade = load_cascade(folder, devices=jax.local_devices()[:1])
        before = live_bytes()
        made = text_to_image(
            cascade,
            PROMPTS,
            seed=3,
            low_memory=free,
            progress=lambda stage, *_: seen.append((stage, live_bytes() - before)),
        )
        np.testing.assert_array_equal(made, pictures)
    sizes = {name: sum(leaf.nbytes for leaf in stage.device_arrays()) for name, stage in cascade.stages.items()}
    differences = {stage: with_all - without for (stage, with_all), (_, without) in zip(held, freed, strict=True)}
    assert differences == {
        "diffusion_prior": 0,
        "decoder": sizes["diffusion_prior"],
        "upsampler_8_to_16": sizes["diffusion_prior"] + sizes["clip"] + sizes["decoder"],
    }
    assert all(leaf.is_deleted() for stage in cascade.stages.values() for leaf in stage.device_arrays())


def test_a_freed_cascade_and_what_holds_its_arrays_say_so(folder):
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
        with pytest.raises(ValueError, match="^cascade '.*' was freed .*; open it again, by load_cascade$"):
            call()
    with pytest.raises(ValueError, match="^cascade 'other' was freed"):
        text_to_image(other, ["a ring"])


def test_what_a_later_stage_shares_with_an_earlier_is_kept_for_it(folder):
    cascade = load_cascade(folder, devices=jax.local_devices()[:1])
    decoder, upsampler = cascade.stages["decoder"], cascade.stages["upsampler_8_to_16"]
    cascade.stages["decoder"] = dataclasses.replace(decoder, last_step_params=upsampler.params)
    cascade.delete_params_except(upsampler)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(decoder.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(upsampler.params))

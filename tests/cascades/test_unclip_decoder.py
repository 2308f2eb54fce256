"""Cascade with the decoder of the unCLIP paper (GLIDE with an image embedding), under a custom stage name."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import unclip_jax
from tests.cascades import tiny
from tests.golden.drawn import gpt2_tokenizer
from tests.randomised import randomise
from unclip_jax.cascades.folder_writing import StageFiles, write_stages
from unclip_jax.kinds import kind_of
from unclip_jax.models.network import parameter_shapes
from unclip_jax.stages.spec import from_json

STEPS = {"prior": 2, "paper": 2, "upsampler_8_to_16": 1}
PROMPTS = ["a red circle", "a green ring"]
PAPER = {
    "schema": 2,
    "kind": "glide",
    "model": {
        "image_size": 8, "channels": 16, "channel_mult": [1, 2], "res_blocks": 1, "attention_resolutions": [4],
        "head_channels": 8, "groups": 8, "vocab_size": 265, "context_length": 12, "text_width": 16, "text_layers": 1,
        "text_heads": 2, "embed_dim": tiny.EMBED,
    },
    "encoders": {"clip": {"stage": "clip"}},
    "diffusion": {"predicts": "x0", "variance": "learned_range"},
    "sampling": {"sampler": "ddpm", "steps": 3, "guidance_scale": 3.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    """Returns the tiny cascade with the unCLIP decoder, named "paper", instead of Karlo's."""
    folder = tiny.write_tiny_cascade(tmp_path_factory.mktemp("paper") / "cascade")
    spec = from_json("paper", PAPER, where="paper")
    params = randomise(parameter_shapes(kind_of(spec).build(spec, where="paper")), seed=7)
    tokenizer = gpt2_tokenizer(folder.parent / "gpt2")
    write_stages(folder, {"paper": StageFiles(spec, params, tokenizer=tokenizer)})
    index = json.loads((folder / "cascade.json").read_text())
    index["stages"].remove("decoder")
    (folder / "cascade.json").write_text(json.dumps(index))
    return unclip_jax.load_cascade(folder, devices=jax.local_devices()[:1])


def generate(cascade, prompts=PROMPTS, **arguments):
    return unclip_jax.text_to_image(cascade, prompts, steps=STEPS, **arguments)


def difference(a, b) -> int:
    return int(np.max(np.abs(a.astype(int) - b.astype(int))))


def test_decoder_is_conditioned_on_caption_and_embedding(cascade):
    images = generate(cascade)
    assert images.shape == (2, 16, 16, 3)
    z = np.zeros((2, tiny.EMBED), np.float32)
    zero = generate(cascade, image_embeddings=z)
    assert difference(zero, images) > 10  # depends on the embedding
    assert difference(generate(cascade, PROMPTS[::-1], image_embeddings=z), zero) > 10  # depends on the caption
    unguided = generate(cascade, image_embeddings=z, decoder_scale=1.0)
    assert difference(unguided, zero) > 10


def test_unconditional_prediction_drops_caption_and_embedding(cascade):
    """At scale 0 the prediction is the unconditional one, for any caption and embedding."""
    z = np.random.default_rng(0).normal(size=(2, tiny.EMBED)).astype(np.float32)
    # The learned variance, and with it the added noise, is conditional at any scale. Only the last step adds no noise.
    last = {"steps": {**STEPS, "paper": 1}, "stop_after": "paper", "decoder_scale": 0.0}
    one = unclip_jax.text_to_image(cascade, PROMPTS, image_embeddings=z, **last)
    other = unclip_jax.text_to_image(cascade, PROMPTS[::-1], image_embeddings=-z, **last)
    assert difference(one, other) <= 1


def test_candidates_are_ranked_by_clip_of_the_decoder(cascade):
    clip, z_t = cascade.stages["clip"], unclip_jax.encode_text(cascade.stages["clip"], PROMPTS)

    def cosines(candidates):
        z = unclip_jax.encode_image(clip, generate(cascade, sampling={"paper": {"candidates": candidates}}))
        return np.sum(z * z_t, -1) / np.linalg.norm(z, axis=-1) / np.linalg.norm(z_t, axis=-1)

    one, eight = cosines(1), cosines(8)
    assert np.all(eight >= one - 1e-5) and np.any(eight > one + 1e-3)


def test_variations_depend_on_the_image(cascade):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    steps = {name: count for name, count in STEPS.items() if name != "prior"}
    made = unclip_jax.variations(cascade, image, count=2, steps=steps)
    assert made.shape == (2, 16, 16, 3)
    assert difference(unclip_jax.variations(cascade, 255 - image, count=2, steps=steps), made) > 10


def test_guidance_scale_arguments_do_not_depend_on_stage_names(cascade):
    """Version 0.1.0 looked up guidance scales by the names "diffusion_prior" and "decoder"."""
    z = np.zeros((2, tiny.EMBED), np.float32)
    by_name = generate(cascade, image_embeddings=z, sampling={"paper": {"guidance_scale": 7.0}})
    assert difference(generate(cascade, image_embeddings=z, decoder_scale=7.0), by_name) == 0
    prior = cascade.stages["diffusion_prior"]
    other = dataclasses.replace(prior, spec=dataclasses.replace(prior.spec, name="mine"))
    stages = {name: stage for name, stage in cascade.stages.items() if name != prior.name}
    mine = dataclasses.replace(cascade, stages={"mine": other, **stages})
    assert difference(generate(mine, prior_scale=1.0), generate(mine, prior_scale=9.0)) > 10

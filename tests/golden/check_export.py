"""Holds an exported cascade against the code that it is for: diffusers' UnCLIPPipeline opens it, and each network and
the whole chain answer as they do here.

    python -m tests.golden.check_export CASCADE

Needs `parity`. A network's answers may differ by 1e-4 of the largest, pictures, before they are rounded to levels, by
1/255. The chain is drawn at the cascade's own steps and scales, with one sample of the prior, ancestrally, from latents
and noise that both sides share.
"""

import argparse
import pathlib
import tempfile

import diffusers
import jax
import numpy as np
import torch
from diffusers.schedulers import scheduling_unclip

import unclip_jax
from tests.cascades.published import row_noise_of
from tests.golden.check_published import difference
from tests.golden.drawn import noise
from tests.golden.peer import channels_last, pictures
from unclip_jax import images
from unclip_jax.__main__ import main
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.diffusion.timesteps import named_path
from unclip_jax.kinds.clip import text_features
from unclip_jax.sampling import diffusion
from unclip_jax.stages.stage import Stage

PROMPTS = ["a red star", "a ring"]
T = np.array([870, 3])
STAGES = {"prior": "diffusion_prior", "decoder": "decoder", "super_res": "upsampler"}


def first(cascade: Cascade, part: str) -> Stage:
    return next(stage for stage in cascade.stages.values() if stage.spec.kind == STAGES[part])


def compare_networks(cascade: Cascade, pipeline: diffusers.UnCLIPPipeline) -> dict[str, float]:
    """The largest relative difference of each network's answers."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((len(PROMPTS), *shape)).astype(np.float32)

    def ours(part: str, *inputs):
        stage = first(cascade, part)
        return np.asarray(stage.module.apply({"params": stage.params}, *inputs))

    text = text_features(cascade.stage_producing("features"), PROMPTS)
    said = pipeline.tokenizer(
        PROMPTS, padding="max_length", max_length=cascade.tokenizer.context_length, return_tensors="pt"
    )
    np.testing.assert_array_equal(said.input_ids, cascade.tokenizer.encode(PROMPTS))
    read = pipeline.text_encoder(said.input_ids)
    pooled, sequence, mask = read.text_embeds, read.last_hidden_state, said.attention_mask.bool()
    np.testing.assert_array_equal(mask, text.mask)
    answers = {"text_encoder": difference(np.asarray(text.pooled), pooled.numpy())}

    z, t = normal(pooled.shape[1]), torch.from_numpy(T)
    theirs = pipeline.prior(torch.from_numpy(z), t, pooled, sequence, mask).predicted_image_embedding
    answers["prior"] = difference(ours("prior", z, T, text), theirs.numpy())

    side = pipeline.decoder.config.sample_size
    x, embedding = normal(side, side, 3), normal(pooled.shape[1])
    context, added = pipeline.text_proj(
        image_embeddings=torch.from_numpy(embedding),
        prompt_embeds=pooled,
        text_encoder_hidden_states=sequence,
        do_classifier_free_guidance=False,
    )
    tokens = pipeline.text_proj.clip_extra_context_tokens
    theirs = pipeline.decoder(
        pictures(x), t, context, class_labels=added,
        attention_mask=torch.nn.functional.pad(mask, (tokens, 0), value=True),
    ).sample  # fmt: skip
    answers["decoder"] = difference(ours("decoder", x, T, embedding, text), channels_last(theirs))

    side = pipeline.super_res_first.config.sample_size
    x, low_res = normal(side, side, 3), normal(side, side, 3)
    theirs = pipeline.super_res_first(torch.cat([pictures(x), pictures(low_res)], dim=1), t).sample
    answers["super_res"] = difference(ours("super_res", x, T, low_res), channels_last(theirs))
    return answers


def draw_theirs(cascade: Cascade, pipeline: diffusers.UnCLIPPipeline, settings: dict) -> np.ndarray:
    """Pictures by the pipeline, in [0, 1]. Its `randn_tensor` gives the noise of the step that is taken."""
    shapes = shapes_of(cascade)

    def tensor(part: str, draw: int) -> torch.Tensor:
        array = torch.from_numpy(noise(part, draw, (len(PROMPTS), *shapes[part])))
        return array.movedim(-1, 1) if array.ndim > 2 else array

    for part in STAGES:
        scheduler, draws = getattr(pipeline, f"{part}_scheduler"), iter(range(1, 10_000))

        def step(*args, part=part, draws=draws, whole=scheduler.step, **kwargs):
            scheduling_unclip.randn_tensor = lambda *_, **__: tensor(part, next(draws))
            return whole(*args, **kwargs)

        scheduler.step = step
    steps = {part: len(named_path(settings[part].steps)) - 1 for part in STAGES}
    return pipeline(
        PROMPTS,
        **{f"{part}_num_inference_steps": count for part, count in steps.items()},
        **{f"{part}_latents": tensor(part, 0) for part in STAGES},
        prior_guidance_scale=settings["prior"].guidance_scale,
        decoder_guidance_scale=settings["decoder"].guidance_scale,
        output_type="np",
    ).images


def shapes_of(cascade: Cascade) -> dict[str, tuple[int, ...]]:
    """The shape of a row of each stage."""
    sides = {part: first(cascade, part).module.image_size for part in ("decoder", "super_res")}
    return {"prior": (first(cascade, "prior").module.embed_dim,)} | {
        part: (side, side, 3) for part, side in sides.items()
    }


def draw_ours(cascade: Cascade, settings: dict) -> np.ndarray:
    """The same pictures here: in [0, 1], for they are taken before `to_uint8` rounds them."""
    draws = {part: len(named_path(own.steps)) for part, own in settings.items()}
    stages = {part: (shape, draws[part]) for part, shape in shapes_of(cascade).items()}
    diffusion.row_noise = row_noise_of(len(PROMPTS), stages)
    images.to_uint8 = lambda pictures: (pictures.clip(-1.0, 1.0) + 1.0) / 2.0
    stages = [first(cascade, part) for part in STAGES]
    return unclip_jax.text_to_image(
        cascade,
        PROMPTS,
        candidates=1,
        sampler={stage.name: "ddpm" for stage in stages},
        sampling={stage.name: {"variance": stage.spec.diffusion.variance, "candidates": 1} for stage in stages},
        stop_after=stages[-1].name,
    )


def run(source: str) -> None:
    cascade = unclip_jax.load_cascade(source, devices=jax.local_devices()[:1], dtype="float32")
    settings = {part: first(cascade, part).spec.sampling for part in STAGES}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        out = pathlib.Path(folder) / "pipeline"
        if main(["export-weights", source, "--format", "diffusers", "--out", str(out)]) != 0:
            raise SystemExit(1)
        pipeline = diffusers.UnCLIPPipeline.from_pretrained(out)
        pipeline.set_progress_bar_config(disable=True)
        answers = compare_networks(cascade, pipeline)
        theirs, ours = draw_theirs(cascade, pipeline, settings), draw_ours(cascade, settings)
    print(f"diffusers {diffusers.__version__}")
    for name, distance in answers.items():
        print(f"{name}: {distance:.1e} of the largest answer")
    apart = 255.0 * np.abs(ours - theirs)
    print(f"pictures: {np.max(apart):.2f}/255, 1 of 1,000 values by {np.quantile(apart, 0.999):.2f}/255 or more")
    if max(answers.values()) > 1e-4 or np.max(apart) > 1.0:
        raise SystemExit("the exported cascade answers otherwise")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cascade", metavar="CASCADE", help="a bundled name, or a cascade folder")
    run(parser.parse_args().cascade)

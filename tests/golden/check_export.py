"""Compares an exported cascade with diffusers' UnCLIPPipeline: every network, and images of the whole pipeline.

    python -m tests.golden.check_export CASCADE

Needs the extra `parity`. Outputs of networks may differ by 1e-4 of the largest value, and images by 1/255 before they
are rounded. Images are sampled with the steps and guidance scales of the cascade, ancestrally, with one candidate of
the prior and the same noise on both sides.
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
from tests.golden.recording import channels_first, channels_last
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
    """Returns the largest relative difference of the outputs of each network."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal((len(PROMPTS), *shape)).astype(np.float32)

    def ours(part: str, *inputs):
        stage = first(cascade, part)
        return np.asarray(stage.module.apply({"params": stage.params}, *inputs))

    text = text_features(cascade.stage_producing("features"), PROMPTS)
    tokenized = pipeline.tokenizer(
        PROMPTS, padding="max_length", max_length=cascade.tokenizer.context_length, return_tensors="pt"
    )
    np.testing.assert_array_equal(tokenized.input_ids, cascade.tokenizer.encode(PROMPTS))
    encoded = pipeline.text_encoder(tokenized.input_ids)
    pooled, sequence, mask = encoded.text_embeds, encoded.last_hidden_state, tokenized.attention_mask.bool()
    np.testing.assert_array_equal(mask, text.mask)
    differences = {"text_encoder": difference(np.asarray(text.pooled), pooled.numpy())}

    z, t = normal(pooled.shape[1]), torch.from_numpy(T)
    theirs = pipeline.prior(torch.from_numpy(z), t, pooled, sequence, mask).predicted_image_embedding
    differences["prior"] = difference(ours("prior", z, T, text), theirs.numpy())

    side = pipeline.decoder.config.sample_size
    x, embedding = normal(side, side, 3), normal(pooled.shape[1])
    context, additive = pipeline.text_proj(
        image_embeddings=torch.from_numpy(embedding),
        prompt_embeds=pooled,
        text_encoder_hidden_states=sequence,
        do_classifier_free_guidance=False,
    )
    tokens = pipeline.text_proj.clip_extra_context_tokens
    theirs = pipeline.decoder(
        channels_first(x), t, context, class_labels=additive,
        attention_mask=torch.nn.functional.pad(mask, (tokens, 0), value=True),
    ).sample  # fmt: skip
    differences["decoder"] = difference(ours("decoder", x, T, embedding, text), channels_last(theirs))

    side = pipeline.super_res_first.config.sample_size
    x, low_res = normal(side, side, 3), normal(side, side, 3)
    theirs = pipeline.super_res_first(torch.cat([channels_first(x), channels_first(low_res)], dim=1), t).sample
    differences["super_res"] = difference(ours("super_res", x, T, low_res), channels_last(theirs))
    return differences


def sample_theirs(cascade: Cascade, pipeline: diffusers.UnCLIPPipeline, settings: dict) -> np.ndarray:
    """Samples images in [0, 1] with the pipeline. Its `randn_tensor` is replaced by `noise`."""
    shapes = shapes_of(cascade)

    def tensor(part: str, draw: int) -> torch.Tensor:
        array = torch.from_numpy(noise(part, draw, (len(PROMPTS), *shapes[part])))
        return array.movedim(-1, 1) if array.ndim > 2 else array

    for part in STAGES:
        scheduler, draws = getattr(pipeline, f"{part}_scheduler"), iter(range(1, 10_000))

        def step(*args, part=part, draws=draws, original_step=scheduler.step, **kwargs):
            scheduling_unclip.randn_tensor = lambda *_, **__: tensor(part, next(draws))
            return original_step(*args, **kwargs)

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
    """Returns the shape of one row of each stage."""
    sides = {part: first(cascade, part).module.image_size for part in ("decoder", "super_res")}
    return {"prior": (first(cascade, "prior").module.embed_dim,)} | {
        part: (side, side, 3) for part, side in sides.items()
    }


def sample_ours(cascade: Cascade, settings: dict) -> np.ndarray:
    """Samples the same images with this package. `to_uint8` is replaced to get values in [0, 1] without rounding."""
    draws = {part: len(named_path(own.steps)) for part, own in settings.items()}
    stages = {part: (shape, draws[part]) for part, shape in shapes_of(cascade).items()}
    diffusion.row_noise = row_noise_of(len(PROMPTS), stages)
    images.to_uint8 = lambda x: (x.clip(-1.0, 1.0) + 1.0) / 2.0
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
        differences = compare_networks(cascade, pipeline)
        theirs, ours = sample_theirs(cascade, pipeline, settings), sample_ours(cascade, settings)
    print(f"diffusers {diffusers.__version__}")
    for name, distance in differences.items():
        print(f"{name}: {distance:.1e} of the largest value")
    errors = 255.0 * np.abs(ours - theirs)
    print(f"images: at most {np.max(errors):.2f}/255, 99.9% of the values at most {np.quantile(errors, 0.999):.2f}/255")
    if max(differences.values()) > 1e-4 or np.max(errors) > 1.0:
        raise SystemExit("The exported cascade differs from diffusers.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cascade", metavar="CASCADE", help="bundled name or cascade folder")
    run(parser.parse_args().cascade)

"""Where a published Karlo lies: diffusers' folder of an unCLIP pipeline, or Kakao Brain's own files.

    diffusers  model_index.json, and a folder for each part: prior, text_proj, decoder, super_res_first, super_res_last,
               a scheduler for each of the three, text_encoder, tokenizer; image_encoder in place of the prior where the
               pipeline is that of image variations
    Karlo      prior-ckpt-*.ckpt, decoder-ckpt-*.ckpt, improved-sr-ckpt-*.ckpt and ViT-L-14_stats.th in one folder, and
               neither a CLIP nor its vocabulary
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from unclip_jax.arrays import PyTree
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.files import read_json
from unclip_jax.pretrained import clip_files, karlo, karlo_diffusers, openai_clip
from unclip_jax.pretrained.clip_files import open_folder
from unclip_jax.pretrained.layer_rules import below
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.stages.spec import EncoderRef, StageSpec

INDEX = "model_index.json"
PIPELINES = ("UnCLIPPipeline", "UnCLIPImageVariationPipeline")
WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")
# Karlo's and diffusers' defaults; Karlo's better preset takes 50 steps in the decoder.
SAMPLING = {
    "diffusion_prior": SamplingSettings(sampler="ddpm", steps=25, guidance_scale=4.0),
    "decoder": SamplingSettings(sampler="ddpm", steps=25, guidance_scale=8.0),
    "upsampler": SamplingSettings(sampler="ddpm", steps=7),
}
# As Karlo's code has them.
DIFFUSION = {
    "diffusion_prior": DiffusionSpec(predicts="x0", variance="fixed_small", clip_x0=10.0),
    "decoder": DiffusionSpec(predicts="eps", variance="learned_range"),
    "upsampler": DiffusionSpec(predicts="eps", variance="fixed_small"),
}
READS_CLIP = {"clip": EncoderRef(stage="clip")}
PREDICTS = {"sample": "x0", "epsilon": "eps"}
VARIANCES = {"fixed_small_log": "fixed_small", "learned_range": "learned_range"}
# Kakao Brain's own files, by how their names begin.
FILES = {
    "prior": "prior-ckpt",
    "decoder": "decoder-ckpt",
    "upsampler": "improved-sr-ckpt",
    "statistics": "ViT-L-14_stats",
}


def is_pipeline(folder: epath.Path) -> bool:
    return (folder / INDEX).exists() and read_json(folder / INDEX).get("_class_name") in PIPELINES


def open_pipeline(folder: epath.Path) -> Published:
    """A folder that `UnCLIPPipeline.save_pretrained` or `UnCLIPImageVariationPipeline.save_pretrained` wrote."""
    stages = [_clip_of_pipeline(folder)]
    if (folder / "prior").exists():
        stages.append(_prior_of_pipeline(folder))
    decoder = _decoder_of_pipeline(folder)
    stages += [decoder, _upsampler_of_pipeline(folder, decoder.spec.model["image_size"])]
    tokenizer = clip_files.tokenizer_in(folder / "tokenizer")
    return Published("Karlo in diffusers' layout", stages, tokenizer, clip_files.TOKENIZER)


def _clip_of_pipeline(folder: epath.Path) -> PublishedStage:
    import transformers

    config = read_json(folder / "text_encoder/config.json")
    text, image = transformers.CLIPTextConfig.from_dict(config), None
    tensors = open_folder(folder / "text_encoder", WEIGHTS)
    if (folder / "image_encoder").exists():
        image = transformers.CLIPVisionConfig.from_dict(read_json(folder / "image_encoder/config.json"))
        # Neither folder stores the scale of cosines; that of every CLIP of OpenAI's is the largest that it may be.
        scale = StoredTensor((), np.dtype(np.float32), lambda: np.float32(np.log(100.0)))
        tensors = {**tensors, **open_folder(folder / "image_encoder", WEIGHTS), "logit_scale": scale}
    fields = openai_clip.hugging_face_fields(text, image, config["projection_dim"])
    weights = Weights(clip_files.without_computed(tensors), openai_clip.hugging_face_rules(fields))
    return PublishedStage(StageSpec(name="clip", kind="clip", model=fields), weights, str(folder / "text_encoder"))


def _prior_of_pipeline(folder: epath.Path) -> PublishedStage:
    fields = karlo_diffusers.prior_fields(read_json(folder / "prior/config.json"))
    tensors, statistics = karlo_diffusers.prior_parts(open_folder(folder / "prior", WEIGHTS))
    weights = Weights(tensors, karlo_diffusers.prior_rules(fields))
    diffusion = _diffusion(folder / "prior_scheduler", "diffusion_prior")
    extras = EmbeddingStatistics(**statistics).to_extras()
    return _stage(
        "diffusion_prior", fields, weights, folder / "prior", diffusion=diffusion, encoders=READS_CLIP, extras=extras
    )


def _decoder_of_pipeline(folder: epath.Path) -> PublishedStage:
    parts = folder / "decoder", folder / "text_proj"
    fields = karlo_diffusers.decoder_fields(*(read_json(part / "config.json") for part in parts))
    tensors = karlo_diffusers.decoder_tensors(*(open_folder(part, WEIGHTS) for part in parts))
    weights = Weights(tensors, karlo_diffusers.decoder_rules(fields))
    diffusion = _diffusion(folder / "decoder_scheduler", "decoder")
    return _stage("decoder", fields, weights, parts[0], diffusion=diffusion, encoders=READS_CLIP)


def _upsampler_of_pipeline(folder: epath.Path, low_res: int) -> PublishedStage:
    parts = folder / "super_res_first", folder / "super_res_last"
    fields = _same(*(karlo_diffusers.upsampler_fields(read_json(part / "config.json")) for part in parts), folder)
    first, last = (Weights(open_folder(part, WEIGHTS), karlo_diffusers.upsampler_rules(fields)) for part in parts)
    diffusion = _diffusion(folder / "super_res_scheduler", "upsampler")
    return _stage("upsampler", fields, first, parts[0], diffusion=diffusion, low_res=low_res, last=last)


def _diffusion(folder: epath.Path, kind: str) -> DiffusionSpec:
    """A stage's `diffusion` as its scheduler says it, or as Karlo has it where there is no scheduler."""
    path = folder / "scheduler_config.json"
    if not path.exists():
        return DIFFUSION[kind]
    said = read_json(path)
    prediction, variance = said.get("prediction_type", "epsilon"), said.get("variance_type", "fixed_small_log")
    if said.get("_class_name") != "UnCLIPScheduler" or prediction not in PREDICTS or variance not in VARIANCES:
        raise ValueError(
            f"{str(path)!r} is a {said.get('_class_name')} with prediction_type {prediction!r} and variance_type "
            f"{variance!r}; an UnCLIPScheduler of {', '.join(PREDICTS)} and {', '.join(VARIANCES)} is known"
        )
    return DiffusionSpec(
        schedule="cosine",
        steps=said.get("num_train_timesteps", 1000),
        predicts=PREDICTS[prediction],
        variance=VARIANCES[variance],
        clip_x0=float(said.get("clip_sample_range", 1.0)) if said.get("clip_sample", True) else None,
    )


def is_original(folder: epath.Path) -> bool:
    return not _files(folder).keys().isdisjoint(FILES.keys() - {"upsampler", "statistics"})


def open_original(folder: epath.Path, clip: Published | None) -> Published:
    """Kakao Brain's own files. `clip`: the CLIP that they do not hold.

    Raises ValueError where a file, or the CLIP, is missing.
    """
    files = _files(folder)
    missing = [f"{beginning}*" for part, beginning in FILES.items() if part not in files]
    if missing:
        raise ValueError(f"{str(folder)!r} lacks {', '.join(missing)} of Karlo's files")
    if clip is None:
        raise ValueError(
            f"{str(folder)!r} (Karlo's own files) holds no CLIP; give the one that it was trained with: "
            f"--clip {clip_files.TOKENIZER}, in Python clip="
        )
    decoder = _original_decoder(files["decoder"])
    upsampler = _original_upsampler(files["upsampler"], decoder.spec.model["image_size"])
    statistics = karlo.statistics(open_tensors(files["statistics"]))
    extras = EmbeddingStatistics(**statistics).to_extras()
    return dataclasses.replace(
        clip,
        family="Karlo in its own layout",
        stages=[*clip.stages, _original_prior(files["prior"], extras), decoder, upsampler],
    )


def _files(folder: epath.Path) -> dict[str, epath.Path]:
    paths = sorted(folder.iterdir())
    return {part: path for part, beginning in FILES.items() for path in paths if path.name.startswith(beginning)}


def _original_prior(path: epath.Path, extras: PyTree) -> PublishedStage:
    tensors = below(open_tensors(path), "state_dict.")
    fields = karlo.prior_fields(tensors)
    weights = Weights(tensors, karlo.prior_rules(fields))
    return _stage("diffusion_prior", fields, weights, path, encoders=READS_CLIP, extras=extras)


def _original_decoder(path: epath.Path) -> PublishedStage:
    tensors = below(open_tensors(path), "state_dict.")
    fields = karlo.decoder_fields(tensors)
    return _stage("decoder", fields, Weights(tensors, karlo.decoder_rules(fields)), path, encoders=READS_CLIP)


def _original_upsampler(path: epath.Path, low_res: int) -> PublishedStage:
    sources = karlo.UPSAMPLER_FIRST, karlo.UPSAMPLER_LAST
    parts = dict(zip(sources, karlo.upsampler_parts(below(open_tensors(path), "state_dict.")), strict=True))
    fields = _same(*(karlo.upsampler_fields(part, source=source) for source, part in parts.items()), path)
    first, last = (Weights(part, karlo.upsampler_rules(fields, source=source)) for source, part in parts.items())
    return _stage("upsampler", fields, first, path, low_res=low_res, last=last)


def _stage(
    kind: str,
    fields: Mapping[str, Any],
    weights: Weights,
    source: epath.Path,
    *,
    diffusion: DiffusionSpec | None = None,
    encoders: Mapping[str, EncoderRef] | None = None,
    extras: PyTree | None = None,
    low_res: int | None = None,
    last: Weights | None = None,
) -> PublishedStage:
    """
    Args:
      diffusion: If None, Karlo's own.
      low_res: The size that an upsampler upsamples from.
    """
    spec = StageSpec(
        name=kind if low_res is None else f"{kind}_{low_res}_to_{fields['image_size']}",
        kind=kind,
        model=fields,
        encoders=encoders or {},
        low_res_size=low_res,
        diffusion=DIFFUSION[kind] if diffusion is None else diffusion,
        sampling=SAMPLING[kind],
        last_step_params=last is not None,
    )
    return PublishedStage(spec, weights, str(source), last=last, extras=extras or {})


def _same(first: dict[str, Any], last: dict[str, Any], source: epath.Path) -> dict[str, Any]:
    """The fields of both networks. Raises ValueError where they differ."""
    differing = ", ".join(f"{name} {first[name]} and {last[name]}" for name in first if first[name] != last[name])
    if differing:
        raise ValueError(f"{str(source)!r}: the last step's network is another than that of the others: {differing}")
    return first

"""Files of published Karlo models.

Two layouts are supported:

    diffusers  model_index.json, and a folder for each part: prior, text_proj, decoder, super_res_first, super_res_last,
               text_encoder, tokenizer, and a scheduler for each of the three stages. The pipeline for image variations
               has an image_encoder instead of the prior.
    Karlo      prior-ckpt-*.ckpt, decoder-ckpt-*.ckpt, improved-sr-ckpt-*.ckpt and ViT-L-14_stats.th in one folder,
               without a CLIP model and its tokenizer
"""

import dataclasses
from typing import Any

import numpy as np
from etils import epath

from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.files import read_json
from unclip_jax.pretrained.clip.files import TOKENIZER
from unclip_jax.pretrained.clip.hugging_face import hugging_face_fields, hugging_face_rules, without_position_ids
from unclip_jax.pretrained.family import Source, WeightFamily
from unclip_jax.pretrained.karlo import diffusers, original
from unclip_jax.pretrained.karlo.specs import (
    DECODER_DIFFUSION,
    PRIOR_DIFFUSION,
    UPSAMPLER_DIFFUSION,
    decoder_spec,
    prior_spec,
    upsampler_spec,
)
from unclip_jax.pretrained.layer_rules import with_prefix
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published, PublishedStage, Weights, tokenizer_in
from unclip_jax.pretrained.tensor_files import open_folder, open_tensors
from unclip_jax.stages.spec import StageSpec

INDEX = "model_index.json"
PIPELINES = ("UnCLIPPipeline", "UnCLIPImageVariationPipeline")
WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")
# Beginnings of the names of the original files.
PRIOR, DECODER, UPSAMPLER, STATISTICS = "prior-ckpt", "decoder-ckpt", "improved-sr-ckpt", "ViT-L-14_stats"


def matches(source: Source) -> bool:
    """Returns whether a source is a Karlo model."""
    return _is_pipeline(source.path) or not {PRIOR, DECODER}.isdisjoint(_original_files(source.path))


def open_model(source: Source) -> Published:
    """Opens a Karlo model in either layout.

    Raises:
      ValueError: If a file or the CLIP model is missing, or if a network or scheduler is not supported.
    """
    return _open_pipeline(source.path) if _is_pipeline(source.path) else _open_original(source)


FAMILY = WeightFamily(
    name="Karlo",
    description=f"{INDEX} of diffusers, or {PRIOR}-*, {DECODER}-*, {UPSAMPLER}-* and {STATISTICS}.th",
    matches=matches,
    open=open_model,
)


def _is_pipeline(path: epath.Path) -> bool:
    return (path / INDEX).exists() and read_json(path / INDEX).get("_class_name") in PIPELINES


def _open_pipeline(folder: epath.Path) -> Published:
    """Opens a folder written by `save_pretrained` of UnCLIPPipeline or UnCLIPImageVariationPipeline."""
    stages = [_pipeline_clip(folder)]
    if (folder / "prior").exists():
        stages.append(_pipeline_prior(folder))
    decoder = _pipeline_decoder(folder)
    stages += [decoder, _pipeline_upsampler(folder, decoder.spec.model["image_size"])]
    return Published("Karlo in diffusers' layout", stages, tokenizer_in(folder / "tokenizer"), TOKENIZER)


def _pipeline_clip(folder: epath.Path) -> PublishedStage:
    import transformers

    config = read_json(folder / "text_encoder/config.json")
    text, image = transformers.CLIPTextConfig.from_dict(config), None
    tensors = open_folder(folder / "text_encoder", WEIGHTS)
    if (folder / "image_encoder").exists():
        image = transformers.CLIPVisionConfig.from_dict(read_json(folder / "image_encoder/config.json"))
        # Neither folder contains logit_scale. All of OpenAI's CLIP models have the maximum value.
        scale = LazyTensor((), np.dtype(np.float32), lambda: np.float32(np.log(100.0)))
        tensors = {**tensors, **open_folder(folder / "image_encoder", WEIGHTS), "logit_scale": scale}
    fields = hugging_face_fields(text, image, config["projection_dim"])
    weights = Weights(without_position_ids(tensors), hugging_face_rules(fields))
    return PublishedStage(StageSpec(name="clip", kind="clip", model=fields), weights, str(folder / "text_encoder"))


def _pipeline_prior(folder: epath.Path) -> PublishedStage:
    fields = diffusers.prior_fields(read_json(folder / "prior/config.json"))
    tensors, statistics = diffusers.prior_parts(open_folder(folder / "prior", WEIGHTS))
    spec = prior_spec(fields, _scheduler(folder / "prior_scheduler", default=PRIOR_DIFFUSION))
    weights = Weights(tensors, diffusers.prior_rules(fields))
    return PublishedStage(spec, weights, str(folder / "prior"), extras=statistics.to_extras())


def _pipeline_decoder(folder: epath.Path) -> PublishedStage:
    parts = folder / "decoder", folder / "text_proj"
    fields = diffusers.decoder_fields(*(read_json(part / "config.json") for part in parts))
    tensors = diffusers.decoder_tensors(*(open_folder(part, WEIGHTS) for part in parts))
    spec = decoder_spec(fields, _scheduler(folder / "decoder_scheduler", default=DECODER_DIFFUSION))
    return PublishedStage(spec, Weights(tensors, diffusers.decoder_rules(fields)), str(parts[0]))


def _pipeline_upsampler(folder: epath.Path, low_res_size: int) -> PublishedStage:
    parts = folder / "super_res_first", folder / "super_res_last"
    fields = _equal(*(diffusers.upsampler_fields(read_json(part / "config.json")) for part in parts), folder)
    first, last = (Weights(open_folder(part, WEIGHTS), diffusers.upsampler_rules(fields)) for part in parts)
    diffusion = _scheduler(folder / "super_res_scheduler", default=UPSAMPLER_DIFFUSION)
    return PublishedStage(upsampler_spec(fields, low_res_size, diffusion), first, str(parts[0]), last=last)


def _scheduler(folder: epath.Path, *, default: DiffusionSpec) -> DiffusionSpec:
    path = folder / "scheduler_config.json"
    return diffusers.diffusion_spec(read_json(path), repr(str(path))) if path.exists() else default


def _original_files(folder: epath.Path) -> dict[str, epath.Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    starts = (PRIOR, DECODER, UPSAMPLER, STATISTICS)
    return {start: path for start in starts for path in paths if path.name.startswith(start)}


def _open_original(source: Source) -> Published:
    folder, files = str(source.path), _original_files(source.path)
    missing = [f"{start}*" for start in (PRIOR, DECODER, UPSAMPLER, STATISTICS) if start not in files]
    if missing:
        raise ValueError(f"{folder!r} lacks files of Karlo: {', '.join(missing)}.")
    if source.clip is None:
        raise ValueError(
            f"{folder!r} (Karlo's original files) includes no CLIP model. Pass the one it was trained with: "
            f"--clip {TOKENIZER}, or clip= in Python."
        )
    decoder = _original_decoder(files[DECODER])
    upsampler = _original_upsampler(files[UPSAMPLER], decoder.spec.model["image_size"])
    prior = _original_prior(files[PRIOR], files[STATISTICS])
    return dataclasses.replace(
        source.clip, family="Karlo in its own layout", stages=[*source.clip.stages, prior, decoder, upsampler]
    )


def _original_prior(path: epath.Path, statistics: epath.Path) -> PublishedStage:
    tensors = _state(path)
    fields = original.prior_fields(tensors)
    extras = original.statistics(open_tensors(statistics)).to_extras()
    weights = Weights(tensors, original.prior_rules(fields))
    return PublishedStage(prior_spec(fields), weights, str(path), extras=extras)


def _original_decoder(path: epath.Path) -> PublishedStage:
    tensors = _state(path)
    fields = original.decoder_fields(tensors)
    return PublishedStage(decoder_spec(fields), Weights(tensors, original.decoder_rules(fields)), str(path))


def _original_upsampler(path: epath.Path, low_res_size: int) -> PublishedStage:
    sources = original.UPSAMPLER_FIRST, original.UPSAMPLER_LAST
    parts = dict(zip(sources, original.upsampler_parts(_state(path)), strict=True))
    fields = _equal(*(original.upsampler_fields(part, source=source) for source, part in parts.items()), path)
    first, last = (Weights(part, original.upsampler_rules(fields, source=source)) for source, part in parts.items())
    return PublishedStage(upsampler_spec(fields, low_res_size), first, str(path), last=last)


def _state(path: epath.Path) -> dict[str, LazyTensor]:
    return with_prefix(open_tensors(path), "state_dict.")


def _equal(first: dict[str, Any], last: dict[str, Any], path: epath.Path) -> dict[str, Any]:
    """Returns the fields that both networks of an upsampler must share."""
    differing = ", ".join(f"{name} {first[name]} and {last[name]}" for name in first if first[name] != last[name])
    if differing:
        raise ValueError(
            f"{str(path)!r}: the network for the last step must have the same sizes as the first, got {differing}."
        )
    return first

"""Exports a cascade as UnCLIPPipeline of diffusers, or its CLIP as CLIPModel of transformers.

Parameters are written as they are in memory, so load the cascade with dtype "float32", or they are rounded.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping

from etils import epath
from safetensors import numpy as safetensors_numpy

from unclip_jax import files
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.stage_settings import settings_of
from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.timesteps import named_path
from unclip_jax.images import CLIP_MEAN, CLIP_STD
from unclip_jax.models.clip import CLIP
from unclip_jax.models.decoder import Decoder
from unclip_jax.models.diffusion_prior import DiffusionPrior
from unclip_jax.models.network import fields_of
from unclip_jax.models.upsampler import Upsampler
from unclip_jax.pretrained.clip import export as clip_export
from unclip_jax.pretrained.exported import Part
from unclip_jax.pretrained.karlo import export as karlo
from unclip_jax.stages.embedding_statistics import EmbeddingStatistics
from unclip_jax.stages.stage import Stage
from unclip_jax.tokenizers.files import copy_tokenizer

# The stages of the pipeline, by their networks.
PARTS = {CLIP: "clip", DiffusionPrior: "diffusion_prior", Decoder: "decoder", Upsampler: "upsampler"}


def export_pipeline(cascade: Cascade, tokenizer: epath.PathLike, folder: epath.PathLike) -> list[str]:
    """Writes the folder that `UnCLIPPipeline.from_pretrained` opens.

    Args:
      cascade: The cascade.
      tokenizer: The folder of its CLIP's tokenizer.
      folder: The folder to write, which must not exist.

    Returns:
      Lines that say what the layout cannot represent, and the call of the pipeline that is closest to the cascade.

    Raises:
      ValueError: If the layout cannot represent a stage, or the cascade lacks one. Then nothing is written.
    """
    found = _stages(cascade)
    missing = [part for network, part in PARTS.items() if not found[network]]
    if missing:
        raise ValueError(f"Cascade {cascade.path!r} has no {', '.join(missing)}. UnCLIPPipeline requires one of each.")
    clip, prior, decoder, upsampler = (found[network][0] for network in PARTS)
    last = upsampler.params if upsampler.last_step_params is None else upsampler.last_step_params
    unet, text_proj = karlo.decoder_parts(fields_of(decoder.module), decoder.params)
    made = {
        "prior": karlo.prior_part(fields_of(prior.module), prior.params, EmbeddingStatistics.from_extras(prior.extras)),
        "decoder": unet,
        "text_proj": text_proj,
        "super_res_first": karlo.upsampler_part(fields_of(upsampler.module), upsampler.params),
        "super_res_last": karlo.upsampler_part(fields_of(upsampler.module), last),
        "text_encoder": clip_export.text_encoder_part(fields_of(clip.module), clip.params),
    }
    for name, stage in (("prior", prior), ("decoder", decoder), ("super_res", upsampler)):
        made[f"{name}_scheduler"] = karlo.scheduler_part(stage.name, stage.spec.diffusion)
    with files.atomic_folder(epath.Path(folder)) as new:
        for name, part in made.items():
            _write(new / name, part)
        (new / "tokenizer").mkdir()
        copy_tokenizer(tokenizer, new / "tokenizer")
        index = karlo.pipeline_index(sorted([*made, "tokenizer"]))
        (new / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    return _said(cascade, folder)


def export_clip(cascade: Cascade, tokenizer: epath.PathLike, folder: epath.PathLike) -> list[str]:
    """Writes the folder that `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` open; it must not exist.

    Args:
      tokenizer: The folder of the CLIP's tokenizer.

    Returns:
      No lines: nothing is lost.
    """
    clip = cascade.stage_producing("features")
    part = clip_export.clip_part(fields_of(clip.module), clip.params)
    side = clip.module.image_size
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "resample": 3,  # bicubic, in Pillow's enumeration
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }
    with files.atomic_folder(epath.Path(folder)) as new:
        copy_tokenizer(tokenizer, new)
        _write(new, part)
        (new / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    return []


@dataclasses.dataclass(frozen=True)
class Format:
    """A layout to export to.

    Attributes:
      title: What is written, for the command line.
      clip_alone: Whether it holds the CLIP and nothing else.
      write: (cascade, folder of the CLIP's tokenizer, folder to write) -> lines about it.
    """

    title: str
    clip_alone: bool
    write: Callable[[Cascade, epath.PathLike, epath.PathLike], list[str]]


FORMATS = {
    "diffusers": Format("UnCLIPPipeline", clip_alone=False, write=export_pipeline),
    "clip": Format("CLIP", clip_alone=True, write=export_clip),
}


def _write(folder: epath.Path, part: Part) -> None:
    folder.mkdir(exist_ok=True)
    name = "scheduler_config.json" if part.tensors is None else "config.json"
    (folder / name).write_text(json.dumps(dict(part.config), indent=2) + "\n")
    if part.tensors is not None:
        weights = "diffusion_pytorch_model" if "_class_name" in part.config else "model"
        content = safetensors_numpy.save(dict(part.tensors), metadata={"format": "pt"})
        (folder / f"{weights}.safetensors").write_bytes(content)


def _stages(cascade: Cascade) -> dict[type, list[Stage]]:
    """The cascade's stages with each network of the pipeline."""
    stages = cascade.stages.values()
    return {network: [stage for stage in stages if type(stage.module) is network] for network in PARTS}


def _said(cascade: Cascade, folder: epath.PathLike) -> list[str]:
    """What is lost, and the call that is left."""
    found = _stages(cascade)
    clip, *sampled = PARTS
    plan = {PARTS[network]: settings_of(cascade, found[network][0], {}) for network in sampled}
    lines = [
        f"{stage.name} is left out: the layout has one upsampler, so that its pictures are "
        f"{found[Upsampler][0].module.image_size} px"
        for stage in found[Upsampler][1:]
    ]
    for part, settings in plan.items():
        lost = {name: value for name, value in settings.chosen().items() if name not in ("steps", "guidance_scale")}
        if lost["sampler"] == "ddpm":
            del lost["sampler"]
        if lost:
            named = ", ".join(f"{name} {value!r}" for name, value in lost.items())
            lines.append(f"{part}: {named} cannot be asked for; the pipeline draws one sample, ancestrally")
    return [*lines, *_call(plan, folder)]


def _call(plan: Mapping[str, SamplingSettings], folder: epath.PathLike) -> list[str]:
    steps = {part: len(named_path(settings.steps)) - 1 for part, settings in plan.items()}
    return [
        "from diffusers import UnCLIPPipeline",
        f"pipeline = UnCLIPPipeline.from_pretrained({str(folder)!r})",
        f"pipeline(prompt, prior_num_inference_steps={steps['diffusion_prior']}, "
        f"decoder_num_inference_steps={steps['decoder']}, super_res_num_inference_steps={steps['upsampler']}, "
        f"prior_guidance_scale={plan['diffusion_prior'].guidance_scale}, "
        f"decoder_guidance_scale={plan['decoder'].guidance_scale})",
    ]

"""Export of cascades as diffusers' UnCLIPPipeline, and of CLIP models as transformers' CLIPModel.

Load the cascade with dtype "float32". With other dtypes, the exported parameters are rounded.
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

# Parts of the pipeline by type of network.
PARTS = {CLIP: "clip", DiffusionPrior: "diffusion_prior", Decoder: "decoder", Upsampler: "upsampler"}


def export_pipeline(cascade: Cascade, tokenizer: epath.PathLike, folder: epath.PathLike) -> list[str]:
    """Writes a folder for `UnCLIPPipeline.from_pretrained`.

    Args:
      cascade: The cascade.
      tokenizer: The folder of the tokenizer of its CLIP model.
      folder: The folder to write, which must not exist or must be empty.

    Returns:
      Lines to print: settings and stages that the layout does not support, and Python code that calls the pipeline with
      the closest settings.

    Raises:
      ValueError: If the cascade lacks a stage, if the layout cannot represent one, or if the folder is not empty.
        Nothing is written in this case.
    """
    stages = _stages(cascade)
    missing = [part for network, part in PARTS.items() if not stages[network]]
    if missing:
        raise ValueError(f"Cascade {cascade.path!r} has no {', '.join(missing)}. UnCLIPPipeline requires one of each.")
    clip, prior, decoder, upsampler = (stages[network][0] for network in PARTS)
    last = upsampler.params if upsampler.last_step_params is None else upsampler.last_step_params
    unet, text_proj = karlo.decoder_parts(fields_of(decoder.module), decoder.params)
    parts = {
        "prior": karlo.prior_part(fields_of(prior.module), prior.params, EmbeddingStatistics.from_extras(prior.extras)),
        "decoder": unet,
        "text_proj": text_proj,
        "super_res_first": karlo.upsampler_part(fields_of(upsampler.module), upsampler.params),
        "super_res_last": karlo.upsampler_part(fields_of(upsampler.module), last),
        "text_encoder": clip_export.text_encoder_part(fields_of(clip.module), clip.params),
    }
    for name, stage in (("prior", prior), ("decoder", decoder), ("super_res", upsampler)):
        parts[f"{name}_scheduler"] = karlo.scheduler_part(stage.name, stage.spec.diffusion)
    with files.atomic_folder(epath.Path(folder)) as new:
        for name, part in parts.items():
            _write(new / name, part)
        (new / "tokenizer").mkdir()
        copy_tokenizer(tokenizer, new / "tokenizer")
        index = karlo.pipeline_index(sorted([*parts, "tokenizer"]))
        (new / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    return _notes(cascade, folder)


def export_clip(cascade: Cascade, tokenizer: epath.PathLike, folder: epath.PathLike) -> list[str]:
    """Writes a folder for `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained`.

    Args:
      cascade: A cascade with a CLIP model.
      tokenizer: The folder of the tokenizer of its CLIP model.
      folder: The folder to write, which must not exist or must be empty.

    Returns:
      An empty list, because the layout can represent every CLIP model with an image encoder.

    Raises:
      ValueError: If the cascade has no CLIP model, if that has no image encoder, or if the folder is not empty. Nothing
        is written in this case.
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
    """Export format.

    Attributes:
      title: Name for messages of the command line.
      clip_alone: Whether only the CLIP model is exported.
      write: Writes the folder. Maps (cascade, folder of the CLIP model's tokenizer, folder to write) to lines to print.
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
    """Returns the stages of a cascade by type of network."""
    stages = cascade.stages.values()
    return {network: [stage for stage in stages if type(stage.module) is network] for network in PARTS}


def _notes(cascade: Cascade, folder: epath.PathLike) -> list[str]:
    """Returns lines about unsupported stages and settings, and the call of the pipeline."""
    stages = _stages(cascade)
    _, *sampled = PARTS
    plan = {PARTS[network]: settings_of(cascade, stages[network][0], {}) for network in sampled}
    lines = [
        f"{stage.name} is not exported. The pipeline has a single upsampler, so its images are "
        f"{stages[Upsampler][0].module.image_size} px."
        for stage in stages[Upsampler][1:]
    ]
    for part, settings in plan.items():
        ignored = {name: value for name, value in settings.chosen().items() if name not in ("steps", "guidance_scale")}
        if ignored["sampler"] == "ddpm":
            del ignored["sampler"]
        if ignored:
            names = ", ".join(f"{name} {value!r}" for name, value in ignored.items())
            lines.append(f"{part}: {names} not supported. The pipeline uses ancestral sampling and one candidate.")
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

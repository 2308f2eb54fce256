"""Files of guided-diffusion: a single network, or a folder with a diffusion model and its upsampler.

The name of a file determines the settings that do not follow from the shapes of its tensors. A fine-tuned network must
have the file name of the published network with the same settings.
"""

import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.pretrained.family import Source, WeightFamily
from unclip_jax.pretrained.guided_diffusion import classifier, unet
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.stages.spec import StageSpec

KNOWN = (*unet.FILE_SETTINGS, *classifier.FILE_SETTINGS)
UPSAMPLER = re.compile(r"(\d+)_(\d+)_upsampler")
# Settings from the README of guided-diffusion. The LSUN models are sampled with all steps of the schedule.
LINEAR_DIFFUSION = DiffusionSpec(schedule="linear", variance="learned_range")
COSINE_DIFFUSION = DiffusionSpec(schedule="cosine", variance="learned_range")
COSINE = ("64x64_diffusion",)
SAMPLING = SamplingSettings(sampler="ddpm", steps=250)
LSUN_SAMPLING = SamplingSettings(sampler="ddpm", steps=1000)


def matches(source: Source) -> bool:
    """Returns whether a source is a network, or a folder with a diffusion model or upsampler."""
    return bool(_files(source.path)) or {"input_blocks.0.0.weight", "time_embed.0.weight"} <= source.tensors.keys()


def open_model(source: Source) -> Published:
    """Opens the network of a file, or the diffusion model and upsampler of a folder.

    Raises:
      ValueError: If a file has an unknown name, if a folder does not contain exactly one diffusion model and at most
        one upsampler, or if the upsampler is for images of another size.
    """
    if source.tensors:
        return Published(FAMILY.name, [_stage(source.path, source.tensors)])
    return Published(FAMILY.name, _open_folder(source.path))


FAMILY = WeightFamily(
    name="guided-diffusion",
    description=f"files with their published names, such as {KNOWN[0]}.pt",
    matches=matches,
    open=open_model,
)


def _files(folder: epath.Path) -> list[epath.Path]:
    """Returns the diffusion models and upsamplers of a folder."""
    paths = [folder / f"{name}.pt" for name in unet.FILE_SETTINGS]
    return [path for path in paths if path.exists()]


def _open_folder(folder: epath.Path) -> list[PublishedStage]:
    paths = _files(folder)
    models = [path for path in paths if not UPSAMPLER.fullmatch(path.stem)]
    upsamplers = [path for path in paths if UPSAMPLER.fullmatch(path.stem)]
    if len(models) != 1 or len(upsamplers) > 1:
        names = ", ".join(path.name for path in paths)
        raise ValueError(
            f"{str(folder)!r} must contain one diffusion model and at most one upsampler, got {names}. Pass a single "
            "file."
        )
    stages = [_stage(path, open_tensors(path)) for path in [*models, *upsamplers]]
    image_size = stages[0].spec.model["image_size"]
    if upsamplers and stages[1].spec.low_res_size != image_size:
        raise ValueError(
            f"{upsamplers[0].name} in {str(folder)!r} must upsample from {image_size} px, the image size of "
            f"{models[0].name}, got {stages[1].spec.low_res_size} px."
        )
    return stages


def _stage(path: epath.Path, tensors: Mapping[str, LazyTensor]) -> PublishedStage:
    name = path.stem
    if name not in KNOWN:
        raise ValueError(
            f"{str(path)!r} contains a network of guided-diffusion. Its file name must be that of the published "
            f"network with the same image size, heads and schedule: {', '.join(f'{x}.pt' for x in KNOWN)}."
        )
    if name in classifier.FILE_SETTINGS:
        fields = classifier.classifier_fields(tensors, **classifier.FILE_SETTINGS[name])
        spec, rules = _classifier_spec(fields), classifier.classifier_rules(fields)
    else:
        fields = unet.guided_diffusion_fields(tensors, **unet.FILE_SETTINGS[name])
        new_order = name in unet.NEW_ATTENTION_ORDER
        spec, rules = _unet_spec(name, fields), unet.guided_diffusion_rules(fields, new_attention_order=new_order)
    return PublishedStage(spec, Weights(tensors, rules), str(path))


def _classifier_spec(fields: Mapping[str, Any]) -> StageSpec:
    return StageSpec(name="classifier", kind="noised_classifier", model=fields)


def _unet_spec(name: str, fields: Mapping[str, Any]) -> StageSpec:
    sizes = UPSAMPLER.fullmatch(name)
    return StageSpec(
        name=f"upsampler_{sizes[1]}_to_{sizes[2]}" if sizes else "base",
        kind="unet",
        model=fields,
        low_res_size=int(sizes[1]) if sizes else None,
        diffusion=COSINE_DIFFUSION if name in COSINE else LINEAR_DIFFUSION,
        sampling=LSUN_SAMPLING if name.startswith("lsun") else SAMPLING,
    )

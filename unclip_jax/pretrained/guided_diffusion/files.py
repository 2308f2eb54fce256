"""The files of guided-diffusion: one network, or a folder with a diffusion model and an upsampler for its images.

The name of a file determines what the shapes of its tensors do not. Name a network of your own like the published
network that has the same settings.
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

KNOWN = (*unet.UNSEEN, *classifier.UNSEEN)
UPSAMPLER = re.compile(r"(\d+)_(\d+)_upsampler")
# Settings of the README. The models of LSUN are sampled with every step of the schedule.
LINEAR_DIFFUSION = DiffusionSpec(schedule="linear", variance="learned_range")
COSINE_DIFFUSION = DiffusionSpec(schedule="cosine", variance="learned_range")
COSINE = ("64x64_diffusion",)
SAMPLING = SamplingSettings(sampler="ddpm", steps=250)
LSUN_SAMPLING = SamplingSettings(sampler="ddpm", steps=1000)


def matches(source: Source) -> bool:
    """Returns whether a source is a network of guided-diffusion, or a folder with one that generates images."""
    return bool(_files(source.path)) or {"input_blocks.0.0.weight", "time_embed.0.weight"} <= source.tensors.keys()


def open_model(source: Source) -> Published:
    """Opens the network of a file, or the model and upsampler of a folder.

    Raises:
      ValueError: If a file has an unknown name, or if a folder has several models or an upsampler for other images.
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
    paths = [folder / f"{name}.pt" for name in unet.UNSEEN]
    return [path for path in paths if path.exists()]


def _open_folder(folder: epath.Path) -> list[PublishedStage]:
    paths = _files(folder)
    models = [path for path in paths if not UPSAMPLER.fullmatch(path.stem)]
    upsamplers = [path for path in paths if UPSAMPLER.fullmatch(path.stem)]
    if len(models) != 1 or len(upsamplers) > 1:
        names = ", ".join(path.name for path in paths)
        raise ValueError(f"{str(folder)!r} must contain one model and at most one upsampler, got {names}. Pass a file.")
    stages = [_stage(path, open_tensors(path)) for path in [*models, *upsamplers]]
    image_size = stages[0].spec.model["image_size"]
    if upsamplers and stages[1].spec.low_res_size != image_size:
        raise ValueError(
            f"{upsamplers[0].name} in {str(folder)!r} does not upsample from {image_size} px, the size of "
            f"{models[0].name}."
        )
    return stages


def _stage(path: epath.Path, tensors: Mapping[str, LazyTensor]) -> PublishedStage:
    name = path.stem
    if name not in KNOWN:
        raise ValueError(
            f"{str(path)!r} contains a network of guided-diffusion, whose name must determine its size, heads and "
            f"schedule. Use the name of the published network that it is like: {', '.join(f'{x}.pt' for x in KNOWN)}."
        )
    if name in classifier.UNSEEN:
        fields = classifier.classifier_fields(tensors, **classifier.UNSEEN[name])
        spec, rules = _classifier_spec(fields), classifier.classifier_rules(fields)
    else:
        fields = unet.guided_diffusion_fields(tensors, **unet.UNSEEN[name])
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

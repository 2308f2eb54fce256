"""Where guided-diffusion's published networks lie: a file each, or in a folder a diffusion model with the upsampler
that enlarges what it makes.

What their shapes do not tell, their names do: a network of one's own takes the name of the published one that it is
like.
"""

import re
from collections.abc import Mapping
from typing import Any

from etils import epath

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.pretrained import guided_diffusion, guided_diffusion_classifier
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.tensor_files import open_tensors
from unclip_jax.stages.spec import StageSpec

FAMILY = "guided-diffusion"
KNOWN = (*guided_diffusion.UNSEEN, *guided_diffusion_classifier.UNSEEN)
COSINE = ("64x64_diffusion",)
UPSAMPLER = re.compile(r"(\d+)_(\d+)_upsampler")
# As its README has it; the networks of LSUN's scenes are best with every step of the schedule.
STEPS, STEPS_OF_LSUN = 250, 1000


def is_guided_diffusion(tensors: Mapping[str, StoredTensor]) -> bool:
    return "input_blocks.0.0.weight" in tensors and "time_embed.0.weight" in tensors


def found(folder: epath.Path) -> list[epath.Path]:
    """The published files in a folder that draw: first what begins a picture, then what enlarges one."""
    paths = [folder / f"{name}.pt" for name in guided_diffusion.UNSEEN]
    return [path for path in paths if path.exists()]


def open_folder(folder: epath.Path) -> Published:
    """Raises ValueError where the files are not one that begins and, at most, one that enlarges its pictures."""
    paths = found(folder)
    begins = [path for path in paths if not UPSAMPLER.fullmatch(path.stem)]
    fits = [path for path in paths if UPSAMPLER.fullmatch(path.stem)]
    if len(begins) != 1 or len(fits) > 1:
        names = ", ".join(path.name for path in paths)
        raise ValueError(f"{str(folder)!r} holds {names}; name one file, or a folder of one and its upsampler")
    stages = [_stage(path, open_tensors(path)) for path in [*begins, *fits]]
    made = stages[0].spec.model["image_size"]
    if fits and stages[1].spec.low_res_size != made:
        raise ValueError(f"{fits[0].name} in {str(folder)!r} does not enlarge the {made} px of {begins[0].name}")
    return Published(FAMILY, stages)


def open_file(path: epath.Path, tensors: Mapping[str, StoredTensor]) -> Published:
    """Raises ValueError for a name that is none of the published ones."""
    return Published(FAMILY, [_stage(path, tensors)])


def _stage(path: epath.Path, tensors: Mapping[str, StoredTensor]) -> PublishedStage:
    name = path.stem
    if name not in KNOWN:
        raise ValueError(
            f"{str(path)!r} holds a network of guided-diffusion's kind, whose name says side, heads and schedule; "
            f"name it as the one that it is like: {', '.join(f'{known}.pt' for known in KNOWN)}"
        )
    if name in guided_diffusion_classifier.UNSEEN:
        fields = guided_diffusion_classifier.classifier_fields(tensors, **guided_diffusion_classifier.UNSEEN[name])
        weights = Weights(tensors, guided_diffusion_classifier.classifier_rules(fields))
        return PublishedStage(StageSpec(name="classifier", kind="noised_classifier", model=fields), weights, str(path))
    fields = guided_diffusion.guided_diffusion_fields(tensors, **guided_diffusion.UNSEEN[name])
    rules = guided_diffusion.guided_diffusion_rules(
        fields, new_attention_order=name in guided_diffusion.NEW_ATTENTION_ORDER
    )
    return PublishedStage(_spec(name, fields), Weights(tensors, rules), str(path))


def _spec(name: str, fields: Mapping[str, Any]) -> StageSpec:
    sides = UPSAMPLER.fullmatch(name)
    schedule = "cosine" if name in COSINE else "linear"
    return StageSpec(
        name=f"upsampler_{sides[1]}_to_{sides[2]}" if sides else "base",
        kind="unet",
        model=fields,
        low_res_size=int(sides[1]) if sides else None,
        diffusion=DiffusionSpec(schedule=schedule, variance="learned_range"),
        sampling=SamplingSettings(sampler="ddpm", steps=STEPS_OF_LSUN if name.startswith("lsun") else STEPS),
    )

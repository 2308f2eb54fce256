"""The upsampler: from a low-resolution image to one of the next size, by convolutions alone."""

from flax import linen as nn

from unclip_jax import images
from unclip_jax.kinds.kind import StageKind, TaskParts
from unclip_jax.models.upsampler import Upsampler
from unclip_jax.sampling.denoising import Denoising, Inputs
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage
from unclip_jax.tasks.upsampler import UpsamplerOptions, UpsamplerTask


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Reads the low-resolution images."""
    return {"low_res": conditions.low_res}


def prepare(module: nn.Module, inputs: Inputs) -> Inputs:
    """Resizes them to the network's size, bicubically."""
    return {"low_res": images.resize(inputs["low_res"], module.image_size)}


def make_task(parts: TaskParts) -> UpsamplerTask:
    """Returns the task of the stage."""
    return UpsamplerTask(parts.module, parts.schedule, parts.spec.diffusion.predicts, **vars(parts.options))


KIND = StageKind(
    name="upsampler",
    network=Upsampler,
    produces="image",
    upsamples=True,
    batch_fields=("image", "low_res"),
    options=UpsamplerOptions,
    make_task=make_task,
    denoising=Denoising(inputs, unconditional=None, prepare=prepare),
)

"""Upsampler: a fully convolutional super-resolution stage without text or image embedding."""

from flax import linen as nn

from unclip_jax import images
from unclip_jax.kinds.kind import StageKind, TaskParts
from unclip_jax.models.upsampler import Upsampler
from unclip_jax.sampling.denoising import Denoising, Inputs
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.stage import Stage
from unclip_jax.tasks.upsampler import UpsamplerOptions, UpsamplerTask


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Returns the low-resolution images as network inputs."""
    return {"low_res": conditions.low_res}


def prepare(module: nn.Module, inputs: Inputs) -> Inputs:
    """Resizes low-resolution images to the size of the network, bicubically."""
    return {"low_res": images.resize(inputs["low_res"], module.image_size)}


def make_task(parts: TaskParts) -> UpsamplerTask:
    """Returns the training task of the stage."""
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

"""A bare U-Net, as in guided-diffusion: unconditional or class-conditional, with or without a low-resolution image."""

from flax import linen as nn

from unclip_jax import images
from unclip_jax.kinds.kind import StageKind
from unclip_jax.models.unet import UNet
from unclip_jax.sampling.denoising import Denoising, Inputs
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage


def reads(module: UNet) -> tuple[str, ...]:
    """Class labels, if the network has classes."""
    return () if module.num_classes is None else ("labels",)


def check(spec: StageSpec, module: UNet) -> None:
    """Raises ValueError unless the channels are those of an image and, for an upsampler, a low-resolution image."""
    expected = 3 if spec.low_res_size is None else 6
    if module.in_channels != expected:
        raise ValueError(
            f"model.in_channels of {spec.name} must be {expected} with low_res_size {spec.low_res_size!r}, got "
            f"{module.in_channels}."
        )


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Reads the labels and the low-resolution images that the network takes."""
    found = {} if stage.module.num_classes is None else {"labels": conditions.labels}
    return found if stage.spec.low_res_size is None else {**found, "extra_channels": conditions.low_res}


def prepare(module: nn.Module, inputs: Inputs) -> Inputs:
    """Resizes low-resolution images to the network's size as ADM does."""
    if "extra_channels" not in inputs:
        return inputs
    return {**inputs, "extra_channels": images.resize_quantized(inputs["extra_channels"], module.image_size)}


KIND = StageKind(
    name="unet",
    network=UNet,
    produces="image",
    reads=reads,
    upsamples=None,
    check=check,
    denoising=Denoising(inputs, unconditional=None, prepare=prepare),
)

"""Plain U-Net, as in guided-diffusion: unconditional or class-conditional, optionally an upsampler."""

from flax import linen as nn

from unclip_jax import images
from unclip_jax.kinds.kind import StageKind
from unclip_jax.models.unet import UNet
from unclip_jax.sampling.denoising import Denoising, Inputs
from unclip_jax.stages.conditions import Conditions
from unclip_jax.stages.spec import StageSpec
from unclip_jax.stages.stage import Stage


def reads(module: UNet) -> tuple[str, ...]:
    """Returns the labels if the network is class-conditional."""
    return () if module.num_classes is None else ("labels",)


def check(spec: StageSpec, module: UNet) -> None:
    """Raises ValueError unless `in_channels` is 3, or 6 for an upsampler."""
    expected = 3 if spec.low_res_size is None else 6
    if module.in_channels != expected:
        raise ValueError(
            f"model.in_channels of {spec.name} must be {expected} with low_res_size {spec.low_res_size!r}, got "
            f"{module.in_channels}."
        )


def inputs(stage: Stage, conditions: Conditions) -> Inputs:
    """Returns the labels and the low-resolution images that the network receives."""
    labels = {} if stage.module.num_classes is None else {"labels": conditions.labels}
    return labels if stage.spec.low_res_size is None else {**labels, "extra_channels": conditions.low_res}


def prepare(module: nn.Module, inputs: Inputs) -> Inputs:
    """Resizes low-resolution images to the size of the network, as in ADM."""
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

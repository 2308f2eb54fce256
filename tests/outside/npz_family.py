"""Weight family of another package: an unconditional U-Net in a .npz file, with PyTorch's order of axes.

The tests use this module directly and as a module of an installed distribution.
"""

import numpy as np

from unclip_jax.diffusion.settings import SamplingSettings
from unclip_jax.diffusion.spec import DiffusionSpec
from unclip_jax.pretrained.family import WeightFamily
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.published import Published, PublishedStage, Weights
from unclip_jax.pretrained.rules import Rule
from unclip_jax.stages.spec import StageSpec

FIELDS = {
    "image_size": 8, "channels": 8, "channel_mult": (1,), "res_blocks": 1, "attention_resolutions": (), "groups": 4,
    "in_channels": 3, "out_channels": 3,
}  # fmt: skip
AXES = {1: "", 2: "o i -> i o", 4: "o i h w -> h w i o"}


def open_model(source):
    with np.load(source.path) as arrays:
        tensors = {
            name: LazyTensor(array.shape, array.dtype, lambda name=name: np.load(source.path)[name])
            for name, array in arrays.items()
        }
    rules = [Rule(name.replace(".", "/"), name, AXES[len(tensor.shape)]) for name, tensor in tensors.items()]
    spec = StageSpec(
        name="base",
        kind="unet",
        model=FIELDS,
        diffusion=DiffusionSpec(predicts="x0"),
        sampling=SamplingSettings(sampler="ddim", steps=1),
    )
    return Published("U-Net of NumPy", [PublishedStage(spec, Weights(tensors, rules), str(source.path))])


FAMILY = WeightFamily(
    name="NumPy",
    description="a .npz file",
    matches=lambda source: source.path.suffix == ".npz",
    open=open_model,
)

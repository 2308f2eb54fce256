"""Writes diffusers-unet-*.npz: outputs of UNet2DModel with random weights and blocks that Karlo does not use.

    python -m tests.golden.make_diffusers_unet

Needs the extra `parity`. Each file contains the inputs, the outputs and, as JSON, the version of diffusers, the
config.json, and the names and shapes of the tensors.
"""

import diffusers
import numpy as np
import torch

from tests.golden.recording import channels_first, channels_last, fill, write

COMMON = {
    "sample_size": 8, "in_channels": 3, "out_channels": 6, "block_out_channels": (32, 48), "layers_per_block": 1,
    "attention_head_dim": 8, "norm_num_groups": 16,
}  # fmt: skip
VARIANTS = {
    # The blocks of published consistency models with guided-diffusion's networks.
    "labels": {
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 16,
        "num_class_embeds": 5,
    },
    "convolutions": {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": None,
    },
}


def make(name: str) -> None:
    model = diffusers.UNet2DModel(**(COMMON | VARIANTS[name]))
    shapes = fill(model)
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 8, 4, 3)).astype(np.float32), "t": np.array([870, 3])}
    if name == "labels":
        inputs["labels"] = np.array([4, 1])
    labels = {"class_labels": torch.from_numpy(inputs["labels"])} if name == "labels" else {}
    with torch.inference_mode():
        output = model(channels_first(inputs["x"]), torch.from_numpy(inputs["t"]), **labels).sample
    write(
        f"diffusers-unet-{name}",
        implementation=f"diffusers {diffusers.__version__} UNet2DModel",
        config=dict(model.config),
        shapes=shapes,
        inputs=inputs,
        outputs={"answer": channels_last(output)},
    )


if __name__ == "__main__":
    for name in VARIANTS:
        make(name)

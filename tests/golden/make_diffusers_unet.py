"""Makes diffusers-unet-*.npz: what diffusers' UNet2DModel answers with drawn weights, in forms that Karlo has not.

    python -m tests.golden.make_diffusers_unet

Needs `parity`. Each file holds the inputs, the answers, and as JSON who gave them, config.json, and each tensor's name
and shape.
"""

import diffusers
import numpy as np
import torch

from tests.golden.peer import channels_last, fill, pictures, write

COMMON = {
    "sample_size": 8, "in_channels": 3, "out_channels": 6, "block_out_channels": (32, 48), "layers_per_block": 1,
    "attention_head_dim": 8, "norm_num_groups": 16,
}  # fmt: skip
FORMS = {
    # As the consistency models of guided-diffusion's networks are published.
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
    model = diffusers.UNet2DModel(**(COMMON | FORMS[name]))
    shapes = fill(model)
    given = {"x": np.random.default_rng(0).standard_normal((2, 8, 4, 3)).astype(np.float32), "t": np.array([870, 3])}
    if name == "labels":
        given["labels"] = np.array([4, 1])
    labels = {"class_labels": torch.from_numpy(given["labels"])} if name == "labels" else {}
    with torch.inference_mode():
        answer = model(pictures(given["x"]), torch.from_numpy(given["t"]), **labels).sample
    write(
        f"diffusers-unet-{name}",
        peer=f"diffusers {diffusers.__version__} UNet2DModel",
        config=dict(model.config),
        shapes=shapes,
        inputs=given,
        answers={"answer": channels_last(answer)},
    )


if __name__ == "__main__":
    for name in FORMS:
        make(name)

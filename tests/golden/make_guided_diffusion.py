"""Writes guided-diffusion-*.npz: outputs of guided-diffusion's networks with random weights.

    PYTHONPATH=<clone of openai/guided-diffusion> python -m tests.golden.make_guided_diffusion

Needs the extra `parity`. Each file contains the inputs, the outputs and, as JSON, the commit of the original code, the
arguments of the network, and the names and shapes of its tensors. The original code is unchanged.
"""

import guided_diffusion
import numpy as np
import torch
from guided_diffusion.unet import EncoderUNetModel, SuperResModel, UNetModel

from tests.golden.recording import channels_first, channels_last, commit, fill, write

CLASSES, HEIGHT, WIDTH = 5, 8, 4
ADM = {
    "image_size": 8, "in_channels": 3, "model_channels": 64, "out_channels": 6, "num_res_blocks": 2,
    "attention_resolutions": (2,), "channel_mult": (1, 1.5), "num_classes": CLASSES, "num_head_channels": 32,
    "use_scale_shift_norm": True, "resblock_updown": True,
}  # fmt: skip
CLASSIFIER = {key: value for key, value in ADM.items() if key != "num_classes"} | {
    "out_channels": CLASSES, "num_res_blocks": 1, "pool": "attention",
}  # fmt: skip
HEADS_OF_32 = {"image_size": 8, "head_channels": 32}


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((2, HEIGHT, WIDTH, 3)).astype(np.float32),
        "low_res": rng.standard_normal((2, HEIGHT // 4, WIDTH // 4, 3)).astype(np.float32),
        "t": np.array([870, 3]),
        "labels": np.array([4, 1]),
    }


def make(name: str, network: type[UNetModel], arguments: dict, unseen: dict) -> None:
    """Writes one file. `unseen` are the arguments of `guided_diffusion_fields` that shapes do not determine."""
    model = network(**arguments)
    shapes = fill(model)
    absent = {"low_res": network is UNetModel, "labels": arguments["num_classes"] is None}
    given = {key: array for key, array in inputs().items() if not absent.get(key)}
    conditions = {"low_res": channels_first(given["low_res"])} if "low_res" in given else {}
    if "labels" in given:
        conditions["y"] = torch.from_numpy(given["labels"])
    with torch.no_grad():  # the gradient checkpointing does not support inference mode
        output = model(channels_first(given["x"]), torch.from_numpy(given["t"]), **conditions)
    write(
        name,
        implementation=f"openai/guided-diffusion {commit(guided_diffusion)} {network.__name__}",
        config={**arguments, "unseen": unseen},
        shapes=shapes,
        inputs=given,
        outputs={"answer": channels_last(output)},
    )


def make_classifier(name: str, arguments: dict, unseen: dict) -> None:
    model = EncoderUNetModel(**arguments)
    shapes = fill(model)
    side = arguments["image_size"]  # the attention pool has a positional embedding for each pixel
    x = np.random.default_rng(1).standard_normal((2, side, side, 3)).astype(np.float32)
    given = {"x": x, "t": inputs()["t"]}
    with torch.no_grad():
        output = model(channels_first(x), torch.from_numpy(given["t"]))
    write(
        name,
        implementation=f"openai/guided-diffusion {commit(guided_diffusion)} EncoderUNetModel",
        config={**arguments, "unseen": unseen},
        shapes=shapes,
        inputs=given,
        outputs={"answer": output.numpy()},
    )


if __name__ == "__main__":
    one_block = ADM | {"num_res_blocks": 1}
    make("guided-diffusion-labels", UNetModel, ADM, HEADS_OF_32)
    make(
        "guided-diffusion-new-order",  # also three levels and multipliers below 1, as in the 512 x 512 model
        UNetModel,
        one_block | {
            "model_channels": 128, "channel_mult": (0.5, 0.5, 0.75), "attention_resolutions": (2, 4),
            "num_classes": None, "use_new_attention_order": True,
        },
        HEADS_OF_32 | {"new_attention_order": True},
    )  # fmt: skip
    make(
        "guided-diffusion-upsampler",
        SuperResModel,
        one_block | {"num_head_channels": -1, "num_heads": 4},
        {"image_size": 8, "num_heads": 4},
    )
    make(
        "guided-diffusion-additive",  # also resamples with convolutions, as Improved DDPM
        UNetModel,
        one_block | {"use_scale_shift_norm": False, "resblock_updown": False, "num_classes": None, "out_channels": 3},
        HEADS_OF_32,
    )
    make_classifier("guided-diffusion-classifier", CLASSIFIER, HEADS_OF_32)
    make_classifier(
        "guided-diffusion-classifier-deep",  # three levels without attention in the first, as published
        CLASSIFIER | {"model_channels": 128, "channel_mult": (0.5, 0.5, 0.75), "attention_resolutions": (2, 4)},
        HEADS_OF_32,
    )

"""Makes guided-diffusion-*.npz: what guided-diffusion's own networks answer with drawn weights.

    PYTHONPATH=<checkout of openai/guided-diffusion> python -m tests.golden.make_guided_diffusion

Needs `parity`. Each file holds the inputs, the answers, and as JSON who gave them, with what it was built, and each
tensor's name and shape. Nothing of the peer is changed or replaced.
"""

import guided_diffusion
import numpy as np
import torch
from guided_diffusion.unet import EncoderUNetModel, SuperResModel, UNetModel

from tests.golden.peer import channels_last, commit, fill, pictures, write

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


def make(name: str, kind: type[UNetModel], built: dict, unseen: dict) -> None:
    """unseen: what shapes do not tell, as arguments of our function."""
    model = kind(**built)
    shapes = fill(model)
    absent = {"low_res": kind is UNetModel, "labels": built["num_classes"] is None}
    given = {key: array for key, array in inputs().items() if not absent.get(key)}
    conditions = {"low_res": pictures(given["low_res"])} if "low_res" in given else {}
    if "labels" in given:
        conditions["y"] = torch.from_numpy(given["labels"])
    with torch.no_grad():  # its checkpointing cannot be run in inference mode
        answer = model(pictures(given["x"]), torch.from_numpy(given["t"]), **conditions)
    write(
        name,
        peer=f"openai/guided-diffusion {commit(guided_diffusion)} {kind.__name__}",
        config={**built, "unseen": unseen},
        shapes=shapes,
        inputs=given,
        answers={"answer": channels_last(answer)},
    )


def make_classifier(name: str, built: dict, unseen: dict) -> None:
    model = EncoderUNetModel(**built)
    shapes = fill(model)
    side = built["image_size"]  # its pool has a position for each pixel, and takes no others
    x = np.random.default_rng(1).standard_normal((2, side, side, 3)).astype(np.float32)
    given = {"x": x, "t": inputs()["t"]}
    with torch.no_grad():
        answer = model(pictures(x), torch.from_numpy(given["t"]))
    write(
        name,
        peer=f"openai/guided-diffusion {commit(guided_diffusion)} EncoderUNetModel",
        config={**built, "unseen": unseen},
        shapes=shapes,
        inputs=given,
        answers={"answer": answer.numpy()},
    )


if __name__ == "__main__":
    one_block = ADM | {"num_res_blocks": 1}
    make("guided-diffusion-labels", UNetModel, ADM, HEADS_OF_32)
    make(
        "guided-diffusion-new-order",  # and with factors below 1, on three levels, as the 512 x 512 model has them
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
        "guided-diffusion-additive",  # and with plain convolutions that resample: Improved DDPM
        UNetModel,
        one_block | {"use_scale_shift_norm": False, "resblock_updown": False, "num_classes": None, "out_channels": 3},
        HEADS_OF_32,
    )
    make_classifier("guided-diffusion-classifier", CLASSIFIER, HEADS_OF_32)
    make_classifier(
        "guided-diffusion-classifier-deep",  # three levels, and attention not in the first, as published
        CLASSIFIER | {"model_channels": 128, "channel_mult": (0.5, 0.5, 0.75), "attention_resolutions": (2, 4)},
        HEADS_OF_32,
    )

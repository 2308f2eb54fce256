"""Writes glide-*.npz: outputs of GLIDE's four networks and its CLIP for noisy images with random weights.

    PYTHONPATH=<clone of openai/glide-text2im> python -m tests.golden.make_glide

Needs the extra `parity`, and attrs, which GLIDE's CLIP imports. Each file contains the inputs, the outputs and, as
JSON, the commit of the original code, the arguments of the network, and the names and shapes of its tensors. The
original code is unchanged. An object with the vocabulary size, which is all that the networks use, replaces its
tokenizer.
"""

import types

import glide_text2im
import numpy as np
import torch
from glide_text2im import text2im_model
from glide_text2im.clip.encoders import ImageEncoder, TextEncoder

from tests.golden.recording import channels_first, channels_last, commit, fill, write

VOCAB, LENGTH, HEIGHT, WIDTH = 30, 6, 8, 4
ARGUMENTS = {
    "text_ctx": LENGTH, "xf_width": 32, "xf_layers": 2, "xf_heads": 4, "xf_final_ln": True, "xf_padding": True,
    "in_channels": 3, "model_channels": 64, "out_channels": 6, "num_res_blocks": 1, "attention_resolutions": (2,),
    "channel_mult": (1, 1.5), "num_head_channels": 32, "use_scale_shift_norm": True, "resblock_updown": True,
}  # fmt: skip
CLIP_SIZES = {
    "image": {"image_size": 8, "patch_size": 4, "n_embd": 12, "n_head": 3, "n_xf_blocks": 2, "n_timestep": 20},
    "text": {"n_bpe_vocab": VOCAB, "max_text_len": LENGTH, "n_embd": 12, "n_head": 2, "n_xf_blocks": 2},
}
HEAD_WIDTH = 8
UNSEEN = {"image_size": 8, "head_channels": 32, "text_head_width": 8}


def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "x": normal(2, HEIGHT, WIDTH, 3),
        "t": np.array([870, 3]),
        "tokens": rng.integers(0, VOCAB, (2, LENGTH)),
        "mask": np.arange(LENGTH) < np.array([[LENGTH], [3]]),
        "low_res": normal(2, HEIGHT // 4, WIDTH // 4, 3),
        "known": normal(2, HEIGHT, WIDTH, 3),
        "known_mask": (rng.random((2, HEIGHT, WIDTH, 1)) < 0.5).astype(np.float32),
    }


def make(name: str, network: type[text2im_model.Text2ImUNet], conditions: dict[str, str]) -> None:
    """Writes one file. `conditions` maps argument names of the original network to names in `inputs`."""
    model = network(tokenizer=types.SimpleNamespace(n_vocab=VOCAB), **ARGUMENTS)
    shapes = fill(model)
    given = {key: array for key, array in inputs().items() if key not in ("low_res", "known", "known_mask")}
    given |= {ours: inputs()[ours] for ours in conditions.values()}
    t, tokens, mask = (torch.from_numpy(given[key]) for key in ("t", "tokens", "mask"))
    images = {theirs: channels_first(given[ours]) for theirs, ours in conditions.items()}
    with torch.inference_mode():
        output = model(channels_first(given["x"]), t, tokens=tokens, mask=mask, **images)
    write(
        name,
        implementation=f"openai/glide-text2im {commit(glide_text2im)} {network.__name__}",
        config={**ARGUMENTS, "unseen": UNSEEN},
        shapes=shapes,
        inputs=given,
        outputs={"answer": channels_last(output)},
    )


def make_clip(name: str) -> None:
    common = {"n_head_state": HEAD_WIDTH, "device": torch.device("cpu")}
    image, text = ImageEncoder(**CLIP_SIZES["image"], **common), TextEncoder(**CLIP_SIZES["text"], **common)
    rng, lengths = np.random.default_rng(1), np.array([LENGTH, 4])
    tokens = rng.integers(1, VOCAB - 1, (2, LENGTH))
    tokens[np.arange(LENGTH) >= lengths[:, None]] = 0
    tokens[[0, 1], lengths - 1] = VOCAB - 1  # the end token has the highest id, as in GLIDE's tokenizer
    given = {"x": rng.standard_normal((2, 8, 8, 3)).astype(np.float32), "t": np.array([17, 3]), "tokens": tokens}
    shapes = fill(image, "image.") | fill(text, "text.")
    with torch.inference_mode():
        # Convert [-1, 1] to [0, 255], as in CLIPModel.image_embeddings.
        image_embedding = image((channels_first(given["x"]) + 1) * 127.5, torch.from_numpy(given["t"]))
        text_embedding = text(torch.from_numpy(tokens), torch.from_numpy(lengths))
    write(
        name,
        implementation=f"openai/glide-text2im {commit(glide_text2im)} clip ImageEncoder, TextEncoder",
        config={**CLIP_SIZES, "unseen": {"head_width": HEAD_WIDTH}},
        shapes=shapes,
        inputs=given,
        outputs={"image": image_embedding.numpy(), "text": text_embedding.numpy()},
    )


if __name__ == "__main__":
    low_res, known = {"low_res": "low_res"}, {"inpaint_image": "known", "inpaint_mask": "known_mask"}
    make("glide-base", text2im_model.Text2ImUNet, {})
    make("glide-upsample", text2im_model.SuperResText2ImUNet, low_res)
    make("glide-base-inpaint", text2im_model.InpaintText2ImUNet, known)
    make("glide-upsample-inpaint", text2im_model.SuperResInpaintText2ImUnet, known | low_res)
    make_clip("glide-noised-clip")

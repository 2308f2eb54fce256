"""Makes glide-*.npz: what GLIDE's own four networks answer with drawn weights, and its CLIP for noised pictures.

    PYTHONPATH=<checkout of openai/glide-text2im> python -m tests.golden.make_glide

Needs `parity`, and attrs, which GLIDE's CLIP imports. Each file holds the inputs, the answers, and as JSON who gave
them, with what it was built, and each tensor's name and shape. Nothing of the peer is changed; of its tokenizer the
networks ask for the size alone.
"""

import types

import glide_text2im
import numpy as np
import torch
from glide_text2im import text2im_model as peer
from glide_text2im.clip.encoders import ImageEncoder, TextEncoder

from tests.golden.peer import channels_last, commit, fill, pictures, write

VOCAB, LENGTH, HEIGHT, WIDTH = 30, 6, 8, 4
BUILT = {
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


def make(name: str, kind: type[peer.Text2ImUNet], conditions: dict[str, str]) -> None:
    """conditions: the peer's names of the pictures that it sees beside x -> ours."""
    model = kind(tokenizer=types.SimpleNamespace(n_vocab=VOCAB), **BUILT)
    shapes = fill(model)
    given = {key: array for key, array in inputs().items() if key not in ("low_res", "known", "known_mask")}
    given |= {ours: inputs()[ours] for ours in conditions.values()}
    t, tokens, mask = (torch.from_numpy(given[key]) for key in ("t", "tokens", "mask"))
    behind = {theirs: pictures(given[ours]) for theirs, ours in conditions.items()}
    with torch.inference_mode():
        answer = model(pictures(given["x"]), t, tokens=tokens, mask=mask, **behind)
    write(
        name,
        peer=f"openai/glide-text2im {commit(glide_text2im)} {kind.__name__}",
        config={**BUILT, "unseen": UNSEEN},
        shapes=shapes,
        inputs=given,
        answers={"answer": channels_last(answer)},
    )


def make_clip(name: str) -> None:
    common = {"n_head_state": HEAD_WIDTH, "device": torch.device("cpu")}
    image, text = ImageEncoder(**CLIP_SIZES["image"], **common), TextEncoder(**CLIP_SIZES["text"], **common)
    rng, lengths = np.random.default_rng(1), np.array([LENGTH, 4])
    tokens = rng.integers(1, VOCAB - 1, (2, LENGTH))
    tokens[np.arange(LENGTH) >= lengths[:, None]] = 0
    tokens[[0, 1], lengths - 1] = VOCAB - 1  # the end of text has the highest id, as in its tokenizer
    given = {"x": rng.standard_normal((2, 8, 8, 3)).astype(np.float32), "t": np.array([17, 3]), "tokens": tokens}
    shapes = fill(image, "image.") | fill(text, "text.")
    with torch.inference_mode():
        # Pictures in [-1, 1] enter as its CLIPModel.image_embeddings has it.
        seen = image((pictures(given["x"]) + 1) * 127.5, torch.from_numpy(given["t"]))
        read = text(torch.from_numpy(tokens), torch.from_numpy(lengths))
    write(
        name,
        peer=f"openai/glide-text2im {commit(glide_text2im)} clip ImageEncoder, TextEncoder",
        config={**CLIP_SIZES, "unseen": {"head_width": HEAD_WIDTH}},
        shapes=shapes,
        inputs=given,
        answers={"image": seen.numpy(), "text": read.numpy()},
    )


if __name__ == "__main__":
    low_res, known = {"low_res": "low_res"}, {"inpaint_image": "known", "inpaint_mask": "known_mask"}
    make("glide-base", peer.Text2ImUNet, {})
    make("glide-upsample", peer.SuperResText2ImUNet, low_res)
    make("glide-base-inpaint", peer.InpaintText2ImUNet, known)
    make("glide-upsample-inpaint", peer.SuperResInpaintText2ImUnet, known | low_res)
    make_clip("glide-noised-clip")

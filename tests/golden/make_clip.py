"""Writes clip-*.npz: outputs of the CLIP models of transformers and OpenCLIP with random weights.

    python -m tests.golden.make_clip

Needs the extra `parity` and open_clip_torch. Each file contains the inputs, the outputs and, as JSON, the version of
the implementation, its configuration, and the names and shapes of its tensors.
"""

import json
import pathlib

import numpy as np
import torch

from tests.golden.drawn import drawn

HERE = pathlib.Path(__file__).parent
SIZE, PATCH, VOCAB, LENGTH, EMBED = 32, 8, 64, 12, 24


def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((3, SIZE, SIZE, 3)).astype(np.float32)
    tokens = rng.integers(1, VOCAB - 2, (3, LENGTH))
    tokens[:, 0] = VOCAB - 2
    for row, end in enumerate((LENGTH - 1, 5, 8)):
        tokens[row, end], tokens[row, end + 1 :] = VOCAB - 1, 0
    return pixels, tokens


def fill(module: torch.nn.Module) -> dict[str, list[int]]:
    """Replaces every parameter by `drawn`. Returns the shapes of all tensors of the state dict."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(drawn(name, tuple(parameter.shape))))
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def write(name: str, config: dict, shapes: dict, implementation: str, **arrays: np.ndarray) -> None:
    pixels, tokens = inputs()
    about = json.dumps({"peer": implementation, "config": config, "shapes": shapes}, indent=1)
    np.savez_compressed(HERE / name, about=about, pixels=pixels, tokens=tokens.astype(np.int32), **arrays)


def make_hugging_face(activation: str) -> None:
    import transformers

    text = {"hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
    image = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6}
    config = transformers.CLIPConfig(
        text_config={
            **text,
            "vocab_size": VOCAB,
            "max_position_embeddings": LENGTH,
            "hidden_act": activation,
            "eos_token_id": VOCAB - 1,
        },
        vision_config={**image, "image_size": SIZE, "patch_size": PATCH, "hidden_act": activation},
        projection_dim=EMBED,
    )
    model = transformers.CLIPModel(config).eval()
    shapes = fill(model)
    pixels, tokens = (torch.from_numpy(x) for x in inputs())
    with torch.inference_mode():
        text = model.text_model(input_ids=tokens)
        pooled = model.text_projection(text.pooler_output)
        image = model.visual_projection(model.vision_model(pixels.permute(0, 3, 1, 2)).pooler_output)
    write(
        f"clip-hugging-face-{activation}.npz",
        json.loads(config.to_json_string(use_diff=False)),
        shapes,
        f"transformers {transformers.__version__} CLIPModel",
        image=image.numpy(),
        pooled=pooled.numpy(),
        sequence=text.last_hidden_state.numpy(),
    )


def make_open_clip(quick_gelu: bool) -> None:
    import open_clip

    config = {
        "embed_dim": EMBED,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": SIZE, "layers": 2, "width": 48, "head_width": 12, "mlp_ratio": 4.9231, "patch_size": PATCH
        },
        "text_cfg": {"context_length": LENGTH, "vocab_size": VOCAB, "width": 32, "heads": 4, "layers": 3},
    }  # fmt: skip
    model = open_clip.CLIP(**config).eval()
    shapes = fill(model)
    pixels, tokens = (torch.from_numpy(x) for x in inputs())
    with torch.inference_mode():
        image, pooled = model.encode_image(pixels.permute(0, 3, 1, 2)), model.encode_text(tokens)
    write(
        f"clip-open-clip{'-quick-gelu' if quick_gelu else ''}.npz",
        {"model_cfg": config},
        {name: shape for name, shape in shapes.items() if name != "attn_mask"},
        f"open_clip_torch {open_clip.__version__} CLIP",
        image=image.numpy(),
        pooled=pooled.numpy(),
    )


if __name__ == "__main__":
    for activation in ("quick_gelu", "gelu"):
        make_hugging_face(activation)
    for quick_gelu in (True, False):
        make_open_clip(quick_gelu)

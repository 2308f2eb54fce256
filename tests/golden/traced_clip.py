"""Writes a small CLIP model in OpenAI's format: TorchScript, traced in float16, with constants that refer to a GPU.

Needs the extra `parity` and open_clip_torch, whose CLIP has the same tensor names.
"""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
import torch
from open_clip import CLIP


def write_traced(path: pathlib.Path, arrays: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
    """Writes the file.

    Args:
      path: The file.
      arrays: float16 tensors of a text encoder of width 64 and an image encoder of width 128, with one layer each.
      buffers: Sizes that the file contains as tensors.
    """
    text = {"context_length": 12, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 32, "patch_size": 8, "width": 128, "head_width": 64, "layers": 1}
    model = CLIP(embed_dim=24, quick_gelu=True, vision_cfg=vision, text_cfg=text).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    mask = model.attn_mask.half()
    del model.attn_mask
    model.half().attn_mask = mask  # in OpenAI's files the mask is a constant of the code, not a buffer
    for name, array in buffers.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.from_numpy(array))
    pixels, tokens = torch.zeros(2, 3, 32, 32).half(), torch.ones(2, 12, dtype=torch.int64)
    inputs = {"encode_image": (pixels,), "encode_text": (tokens,)}
    on_cpu = path.with_suffix(".cpu")
    torch.jit.trace_module(model, inputs, check_trace=False).save(on_cpu)
    with zipfile.ZipFile(on_cpu) as traced, zipfile.ZipFile(path, "w") as on_gpu:
        for name in traced.namelist():
            content = traced.read(name)
            on_gpu.writestr(name, content.replace(b'"cpu"', b'"cuda:0"') if name.endswith(".py") else content)
    on_cpu.unlink()

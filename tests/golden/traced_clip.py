"""Writes a small CLIP as OpenAI published theirs: TorchScript, traced in float16, with constants that name a GPU.

Needs `parity` and open_clip_torch, whose CLIP has the same names.
"""

import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
import torch
from open_clip import CLIP


def write_traced(path: pathlib.Path, arrays: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
    """arrays: float16, of one layer a tower, 64 and 128 wide.  buffers: the sizes that such a file says."""
    size = {"context_length": 12, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    picture = {"image_size": 32, "patch_size": 8, "width": 128, "head_width": 64, "layers": 1}
    model = CLIP(embed_dim=24, quick_gelu=True, vision_cfg=picture, text_cfg=size).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    mask = model.attn_mask.half()
    del model.attn_mask
    model.half().attn_mask = mask  # no buffer there, but a constant of the code
    for name, array in buffers.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.from_numpy(array))
    pixels, tokens = torch.zeros(2, 3, 32, 32).half(), torch.ones(2, 12, dtype=torch.int64)
    given = {"encode_image": (pixels,), "encode_text": (tokens,)}
    on_cpu = path.with_suffix(".cpu")
    torch.jit.trace_module(model, given, check_trace=False).save(on_cpu)
    with zipfile.ZipFile(on_cpu) as traced, zipfile.ZipFile(path, "w") as on_gpu:
        for name in traced.namelist():
            content = traced.read(name)
            on_gpu.writestr(name, content.replace(b'"cpu"', b'"cuda:0"') if name.endswith(".py") else content)
    on_cpu.unlink()

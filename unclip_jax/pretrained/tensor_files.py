"""Readers for weights files in the formats of safetensors and PyTorch."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors import SafetensorError, safe_open

from unclip_jax.files import read_json
from unclip_jax.pretrained.lazy_tensor import LazyTensor
from unclip_jax.pretrained.torch_files import read_torch

DTYPES = {
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "BF16": np.dtype(jnp.bfloat16),
    "BOOL": np.dtype(bool),
}
LFS_POINTER = b"version https://git-lfs"


def open_tensors(path: epath.PathLike) -> dict[str, LazyTensor]:
    """Returns the tensors of a weights file by name, in the order of the file.

    Only names and shapes are read.

    Raises:
      ValueError: If the file is damaged or not a weights file.
      FileNotFoundError: If the file does not exist.
    """
    path = epath.Path(path)
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(LFS_POINTER):
        raise ValueError(f"{str(path)!r} is a Git LFS pointer. Download the file with `git lfs pull`.")
    if start[8:9] == b"{":  # safetensors: the length of the header, then the header as JSON
        return _open_safetensors(path)
    if start[:2] == b"PK" or start[:1] == b"\x80":  # PyTorch: a zip archive or a pickle
        return read_torch(path)
    raise ValueError(f"{str(path)!r} is not a supported weights file. Expected .safetensors, .bin, .pt, .pth or .ckpt.")


def open_folder(folder: epath.Path, names: Sequence[str]) -> dict[str, LazyTensor]:
    """Returns the tensors of a folder, from one weights file or from several with an index.

    Args:
      folder: The folder.
      names: File names without suffix, in order of preference. Any .safetensors file is preferred to any .bin file.

    Raises:
      ValueError: If the folder contains no weights, or if a file or tensor of its index is missing.
    """
    candidates = [f"{name}{suffix}" for suffix in (".safetensors", ".bin") for name in names]
    for name in candidates:
        if (folder / name).exists():
            return open_tensors(folder / name)
        if (folder / f"{name}.index.json").exists():
            return _open_indexed(folder, f"{name}.index.json")
    raise ValueError(f"{str(folder)!r} has no weights. Expected one of {', '.join(candidates)}.")


def _open_indexed(folder: epath.Path, index: str) -> dict[str, LazyTensor]:
    file_of = read_json(folder / index).get("weight_map", {})
    missing = sorted(file for file in set(file_of.values()) if not (folder / file).exists())
    if missing or not file_of:
        problem = f"lists missing files: {', '.join(missing)}" if missing else "has no weight_map"
        raise ValueError(f"{str(folder / index)!r} {problem}.")
    tensors = {file: open_tensors(folder / file) for file in sorted(set(file_of.values()))}
    lacking = sorted(name for name, file in file_of.items() if name not in tensors[file])
    if lacking:
        raise ValueError(f"{str(folder / file_of[lacking[0]])!r} lacks {lacking[0]}, which {index} assigns to it.")
    return {name: tensors[file][name] for name, file in file_of.items()}


def _open_safetensors(path: epath.Path) -> dict[str, LazyTensor]:
    try:
        with safe_open(path, "np") as file:
            names = file.keys()  # the file object itself is not iterable
            return {name: _lazy(path, name, file.get_slice(name)) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a valid safetensors file: {error}") from error


def _lazy(path: epath.Path, name: str, part) -> LazyTensor:
    def read() -> np.ndarray:
        with safe_open(path, "np") as file:
            return file.get_tensor(name)

    if part.get_dtype() not in DTYPES:
        raise ValueError(f"{name} in {str(path)!r} must have type {', '.join(DTYPES)}, got {part.get_dtype()}.")
    return LazyTensor(tuple(part.get_shape()), DTYPES[part.get_dtype()], read)

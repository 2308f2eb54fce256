"""The tensors of weights files: safetensors and the formats of PyTorch."""

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
    """Returns the tensors of a file by name, in the order of the file. Only names and shapes are read.

    Raises:
      ValueError: If the file is damaged or not a weights file.
      FileNotFoundError: If there is no file.
    """
    path = epath.Path(path)
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(LFS_POINTER):
        raise ValueError(f"{str(path)!r} is a Git LFS pointer. Download the file with `git lfs pull`.")
    if start[8:9] == b"{":  # follows a length, whose bytes can be anything
        return _open_safetensors(path)
    if start[:2] == b"PK" or start[:1] == b"\x80":  # a zip archive, a pickle
        return read_torch(path)
    raise ValueError(f"{str(path)!r} is not a supported weights file. Expected .safetensors, .bin, .pt, .pth or .ckpt.")


def open_folder(folder: epath.Path, names: Sequence[str]) -> dict[str, LazyTensor]:
    """Returns the tensors of a folder's weights: one file, or several with an index. Safetensors is preferred to .bin.

    Args:
      folder: The folder.
      names: File names without suffix, in order of preference.

    Raises:
      ValueError: If the folder has no weights, or lacks a file or tensor of its index.
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
        raise ValueError(f"{str(folder / index)!r} names {', '.join(missing) or 'no files'}, which the folder lacks.")
    tensors = {file: open_tensors(folder / file) for file in sorted(set(file_of.values()))}
    lost = sorted(name for name, file in file_of.items() if name not in tensors[file])
    if lost:
        raise ValueError(f"{str(folder / index)!r} places {lost[0]} in {file_of[lost[0]]}, which does not contain it.")
    return {name: tensors[file][name] for name, file in file_of.items()}


def _open_safetensors(path: epath.Path) -> dict[str, LazyTensor]:
    try:
        with safe_open(path, "np") as file:
            names = file.keys()  # the file itself cannot be iterated over
            return {name: _lazy(path, name, file.get_slice(name)) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is not a valid safetensors file: {error}") from error


def _lazy(path: epath.Path, name: str, part) -> LazyTensor:
    def read() -> np.ndarray:
        with safe_open(path, "np") as file:
            return file.get_tensor(name)

    if part.get_dtype() not in DTYPES:
        raise ValueError(f"{str(path)!r}: {name} has unknown type {part.get_dtype()}. Available: {', '.join(DTYPES)}.")
    return LazyTensor(tuple(part.get_shape()), DTYPES[part.get_dtype()], read)

"""The tensors of a file of weights, whoever wrote it: safetensors, or PyTorch's formats."""

import jax.numpy as jnp
import numpy as np
from etils import epath
from safetensors import SafetensorError, safe_open

from unclip_jax.pretrained.stored_tensor import StoredTensor
from unclip_jax.pretrained.torch_files import read_torch

DTYPES = {
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "BF16": np.dtype(jnp.bfloat16),
    "BOOL": np.dtype(bool),
}
LFS_POINTER = b"version https://git-lfs"


def open_tensors(path: epath.PathLike) -> dict[str, StoredTensor]:
    """{name: tensor} of a file, in its order. Nothing is read but names and sizes, until a tensor's `read()`.

    Raises ValueError, with one line, for a file that is none of weights, or is damaged; FileNotFoundError for none.
    """
    path = epath.Path(path)
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(LFS_POINTER):
        raise ValueError(f"{str(path)!r} is a pointer of Git LFS and not the file: `git lfs pull` fetches it")
    if start[8:9] == b"{":  # behind a length whose bytes may look like anything
        return _open_safetensors(path)
    if start[:2] == b"PK" or start[:1] == b"\x80":  # a zip archive, a pickle
        return read_torch(path)
    raise ValueError(f"{str(path)!r} is no file of weights; safetensors, .bin, .pt, .pth and .ckpt of PyTorch are read")


def _open_safetensors(path: epath.Path) -> dict[str, StoredTensor]:
    try:
        with safe_open(path, "np") as file:
            names = file.keys()  # the file itself cannot be iterated over
            return {name: _stored(path, name, file.get_slice(name)) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is no sound safetensors file: {error}") from error


def _stored(path: epath.Path, name: str, part) -> StoredTensor:
    def read() -> np.ndarray:
        with safe_open(path, "np") as file:
            return file.get_tensor(name)

    if part.get_dtype() not in DTYPES:
        raise ValueError(f"{str(path)!r}: {name} is of type {part.get_dtype()}; known: {', '.join(DTYPES)}")
    return StoredTensor(tuple(part.get_shape()), DTYPES[part.get_dtype()], read)

"""Reader for PyTorch's weights files that needs no PyTorch and executes no code from the file.

`torch.save` writes a pickle with a function call for each tensor. The data of their storages is outside the pickle:

    zip         NAME/data.pkl, and each storage as NAME/data/KEY (since PyTorch 1.6, and TorchScript)
    legacy      five consecutive pickles (magic number, version, machine, object, keys), then each storage as its number
                of elements (int64), followed by its data

A pickle can call any function of any module by its name. This reader maps the few names that tensors need to functions
of this module and TorchScript's classes to `Attributes`, and rejects all other names.
"""

import collections
import dataclasses
import math
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
from etils import epath

from unclip_jax.errors import first_line
from unclip_jax.pretrained.lazy_tensor import LazyTensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
STORAGES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "UntypedStorage": np.uint8,
}
TYPES = STORAGES | {np.dtype(dtype).name: dtype for dtype in STORAGES.values()}


def read_torch(path: epath.PathLike) -> dict[str, LazyTensor]:
    """Returns the tensors of a file written by `torch.save` or TorchScript.

    Nested dicts, sequences and TorchScript objects are searched in their order. Other values are ignored.

    Returns:
      The tensors by name. A name joins the keys that lead to the tensor with dots, such as "model.conv.weight".

    Raises:
      ValueError: If the file is damaged or big-endian, or if it refers to anything except tensors, containers and
        numbers.
    """
    path = epath.Path(path)
    with path.open("rb") as file:
        is_zip = zipfile.is_zipfile(file)
    try:
        return _flatten(_read_zip(path) if is_zip else _read_legacy(path))
    except Exception as error:  # a damaged pickle can cause an error of any type
        raise ValueError(f"{str(path)!r} is not a readable PyTorch file: {first_line(error).rstrip('.')}.") from error


def _flatten(tree: Any) -> dict[str, LazyTensor]:
    if isinstance(tree, LazyTensor):
        return {"": tree}
    if isinstance(tree, Attributes):
        tree = vars(tree)
    elif isinstance(tree, list | tuple):
        tree = dict(enumerate(tree))
    if not isinstance(tree, Mapping):
        return {}
    return {
        f"{key}.{name}" if name else str(key): tensor
        for key, value in tree.items()
        for name, tensor in _flatten(value).items()
    }


class Attributes:
    """The attributes of a TorchScript object, without its code."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A contiguous block of elements in the file."""

    dtype: np.dtype
    count: int
    read: Callable[[], bytes]


class _Unpickler(pickle.Unpickler):
    """Restricted unpickler. `storage` maps (key, count, bytes per element) to a reader of the data."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, int, int], Callable[[], bytes]] | None = None):
        _check_memo(file)
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        resolved = _resolve(module, name)
        if resolved is None:
            raise ValueError(f"it refers to {module}.{name}, which is not part of a tensor. No code was executed")
        return resolved

    def persistent_load(self, identity: Any) -> _Storage:
        record_type, dtype, key, _, count, *view = identity
        if record_type != "storage" or self._storage is None or not _is_size(count) or any(view):
            raise ValueError(f"{str(identity)[:80]!r} is not a storage")
        dtype = np.dtype(dtype)
        return _Storage(dtype, count, self._storage(str(key), count, dtype.itemsize))


def _check_memo(file: BinaryIO) -> None:
    """Checks that no memo index exceeds the number of opcodes before it, and restores the file position."""
    start = file.tell()
    # The unpickler allocates memory for all lower indices, so a few bytes could exhaust the memory.
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > count:
            raise ValueError(f"memo index {argument} of the pickle is out of range")
    file.seek(start)


def _resolve(module: str, name: str) -> Any:
    """Returns the replacement for a name in a pickle, or None if the name is not allowed."""
    if module == "__torch__" or module.startswith("__torch__."):
        return Attributes
    if module == "torch" and name in TYPES:
        return TYPES[name]
    return {
        ("torch.storage", "UntypedStorage"): np.uint8,
        ("torch", "Size"): tuple,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
        ("torch._utils", "_rebuild_parameter"): _first,
        ("torch.jit._pickle", "build_intlist"): _first,
        ("torch.jit._pickle", "build_doublelist"): _first,
        ("torch.jit._pickle", "build_boollist"): _first,
        ("torch.jit._pickle", "build_tensorlist"): _first,
        ("torch.jit._pickle", "restore_type_tag"): _first,
        ("collections", "OrderedDict"): collections.OrderedDict,
    }.get((module, name))


def _first(value: Any, *_: Any) -> Any:
    return value


def _typed_tensor(storage, offset, size, stride, requires_grad, hooks, dtype, *_) -> LazyTensor:
    count, rest = divmod(storage.count * storage.dtype.itemsize, np.dtype(dtype).itemsize)
    if rest:
        raise ValueError(f"a storage of {storage.count} bytes cannot contain {np.dtype(dtype).name} elements")
    return _tensor(_Storage(np.dtype(dtype), count, storage.read), offset, size, stride)


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> LazyTensor:
    if not isinstance(storage, _Storage):
        raise ValueError(f"a tensor must have a storage, got {type(storage).__name__}")
    size, stride = tuple(size), tuple(stride)
    is_valid = len(size) == len(stride) and all(_is_size(number) for number in (offset, *size, *stride))
    elements = math.prod(size) if is_valid else 0
    # With a stride of 0, a storage of a few bytes could represent a tensor of any size.
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if elements else 0
    if not is_valid or elements > storage.count or last >= max(storage.count, 1):
        raise ValueError(f"shape {size} at offset {offset} does not fit into a storage of {storage.count} elements")

    def read() -> np.ndarray:
        row = np.frombuffer(storage.read(), storage.dtype)
        steps = tuple(step * row.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(row[offset:], size, steps).copy()

    return LazyTensor(size, storage.dtype, read)


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 2**48


def _read_zip(path: epath.Path) -> Any:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it must contain one data.pkl, got {len(pickles)}")
        folder = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder").decode() if f"{folder}byteorder" in entries else "little"
        if order != "little":
            raise ValueError(f"its byte order must be little-endian, got {order!r}")

        def storage(key: str, count: int, itemsize: int) -> Callable[[], bytes]:
            entry, size = entries.get(f"{folder}data/{key}"), count * itemsize
            if entry is None or entry.file_size != size or entry.compress_type != zipfile.ZIP_STORED:
                expected = f"must be uncompressed and have {size} bytes"
                raise ValueError(f"entry {folder}data/{key} {expected}, got {entry.file_size if entry else 'no entry'}")
            return lambda: _read_entry(path, entry.filename)

        with archive.open(pickles[0]) as pickled:
            return _Unpickler(pickled, storage).load()


def _read_entry(path: epath.Path, name: str) -> bytes:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return archive.read(name)  # verifies the checksum
    except Exception as error:  # a damaged archive can cause an error of any type
        raise ValueError(f"{str(path)!r} is damaged ({first_line(error)}).") from error


def _read_legacy(path: epath.Path) -> Any:
    storages: dict[str, tuple[int, int]] = {}
    positions: dict[str, int] = {}

    def storage(key: str, count: int, itemsize: int) -> Callable[[], bytes]:
        if storages.setdefault(key, (count, itemsize)) != (count, itemsize):
            raise ValueError(f"storage {key} has two different sizes")
        return lambda: _read_range(path, positions[key], count * itemsize)

    with path.open("rb") as file:
        if _Unpickler(file).load() != LEGACY_MAGIC or _Unpickler(file).load() != LEGACY_VERSION:
            raise ValueError("it does not begin with the magic number and version of torch.save")
        if not _Unpickler(file).load()["little_endian"]:
            raise ValueError("its byte order must be little-endian, got big-endian")
        tree = _Unpickler(file, storage).load()
        keys = _Unpickler(file).load()
        if sorted(keys) != sorted(storages):
            raise ValueError(f"it contains {len(keys)} storages, but its tensors refer to {len(storages)}")
        for key in keys:
            count, itemsize = storages[key]
            if file.read(8) != struct.pack("<q", count):
                raise ValueError(f"storage {key} is truncated or does not have {count} elements")
            positions[key] = file.tell()
            file.seek(count * itemsize, os.SEEK_CUR)
        end = file.tell()
        if end > file.seek(0, os.SEEK_END):
            raise ValueError(f"the last {end - file.tell()} bytes are missing")
    return tree


def _read_range(path: epath.Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)

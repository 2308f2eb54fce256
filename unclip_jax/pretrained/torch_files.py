"""The tensors of PyTorch's files, without PyTorch and without running anything that a file says.

What torch.save writes is a pickle in which a tensor is a call of one of three functions on a storage, and the bytes of
the storages lie elsewhere in the file:

    zip         NAME/data.pkl, and each storage as NAME/data/KEY (since PyTorch 1.6; TorchScript's files too)
    legacy      five pickles one behind the other (magic number, version, machine, object, keys), then each storage as
                its number of elements, int64, and its bytes

A pickle may name any function of any module to be called. Here the few names that tensors need mean functions of this
file, TorchScript's classes mean bare holders of attributes, and every other name is an error.
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
    """The tensors in a file of torch.save or TorchScript, by the names on the way to them: "model.conv.weight".

    Nested dicts, sequences and TorchScript's objects are gone through in their order; what is no tensor is left.

    Raises ValueError, with one line, for a file that is broken, is of a machine with another order of bytes, or names
    anything but tensors, and containers and numbers to put them in.
    """
    path = epath.Path(path)
    with path.open("rb") as file:
        is_zip = zipfile.is_zipfile(file)
    try:
        return _named(_read_zip(path) if is_zip else _read_legacy(path))
    except Exception as error:  # whatever a broken pickle makes its reader stumble over
        raise ValueError(f"{str(path)!r} cannot be read as a file of PyTorch: {first_line(error)}") from error


def _named(tree: Any) -> dict[str, LazyTensor]:
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
        for name, tensor in _named(value).items()
    }


class Attributes:
    """An object of TorchScript: what it held, by name. None of its code."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Elements in a row, somewhere in the file."""

    dtype: np.dtype
    count: int
    read: Callable[[], bytes]


class _Unpickler(pickle.Unpickler):
    """Knows the names of `_known` and no others. `storage` finds the bytes of (key, elements, bytes of an element)."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, int, int], Callable[[], bytes]] | None = None):
        _check_memo(file)
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        known = _known(module, name)
        if known is None:
            raise ValueError(f"it refers to {module}.{name}, which no tensor needs; nothing of it was run")
        return known

    def persistent_load(self, identity: Any) -> _Storage:
        record_type, dtype, key, _, count, *view = identity
        if record_type != "storage" or self._storage is None or not _is_size(count) or any(view):
            raise ValueError(f"{str(identity)[:80]!r} is no storage")
        dtype = np.dtype(dtype)
        return _Storage(dtype, count, self._storage(str(key), count, dtype.itemsize))


def _check_memo(file: BinaryIO) -> None:
    """Raises ValueError where a place in the pickle's memory lies beyond what so many bytes can fill: the reader would
    make room for all that lie before. Leaves the file where it was."""
    start = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > count:
            raise ValueError(f"entry {argument} of the pickle's memory is named before there are so many")
    file.seek(start)


def _known(module: str, name: str) -> Any:
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
        raise ValueError(f"a storage of {storage.count} bytes cannot hold {np.dtype(dtype).name}")
    return _tensor(_Storage(np.dtype(dtype), count, storage.read), offset, size, stride)


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> LazyTensor:
    if not isinstance(storage, _Storage):
        raise ValueError(f"a tensor lies in a {type(storage).__name__}, which is no storage")
    size, stride = tuple(size), tuple(stride)
    sound = len(size) == len(stride) and all(_is_size(number) for number in (offset, *size, *stride))
    elements = math.prod(size) if sound else 0
    # A stride of 0 would let a few bytes stand for any number of elements.
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if elements else 0
    if not sound or elements > storage.count or last >= max(storage.count, 1):
        raise ValueError(f"a tensor of shape {size} from {offset} on does not lie in its storage of {storage.count}")

    def read() -> np.ndarray:
        row = np.frombuffer(storage.read(), storage.dtype)
        steps = tuple(step * row.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(row[offset:], size, steps).copy()

    return LazyTensor(size, storage.dtype, read)


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 2**48


def _read_zip(path: epath.Path) -> Any:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        found = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in found if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"{len(pickles)} of its entries are a data.pkl, not one")
        (name,) = pickles
        folder = name.removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder").decode() if f"{folder}byteorder" in found else "little"
        if order != "little":
            raise ValueError(f"its numbers are written {order} end first")

        def storage(key: str, count: int, itemsize: int) -> Callable[[], bytes]:
            entry, size = found.get(f"{folder}data/{key}"), count * itemsize
            if entry is None or entry.file_size != size or entry.compress_type != zipfile.ZIP_STORED:
                lies = "is missing" if entry is None else f"has {entry.file_size} bytes, not {size} as they are"
                raise ValueError(f"entry {folder}data/{key} {lies}")
            return lambda: _read_entry(path, entry.filename)

        with archive.open(name) as pickled:
            return _Unpickler(pickled, storage).load()


def _read_entry(path: epath.Path, name: str) -> bytes:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            return archive.read(name)  # which holds it against its checksum
    except Exception as error:  # a damaged archive makes its reader stumble over anything
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def _read_legacy(path: epath.Path) -> Any:
    storages: dict[str, tuple[int, int]] = {}
    places: dict[str, int] = {}

    def storage(key: str, count: int, itemsize: int) -> Callable[[], bytes]:
        if storages.setdefault(key, (count, itemsize)) != (count, itemsize):
            raise ValueError(f"storage {key} is of two sizes")
        return lambda: _read_range(path, places[key], count * itemsize)

    with path.open("rb") as file:
        if _Unpickler(file).load() != LEGACY_MAGIC or _Unpickler(file).load() != LEGACY_VERSION:
            raise ValueError("it does not begin as such a file does")
        if not _Unpickler(file).load()["little_endian"]:
            raise ValueError("its numbers are written big end first")
        tree = _Unpickler(file, storage).load()
        keys = _Unpickler(file).load()
        if sorted(keys) != sorted(storages):
            raise ValueError(f"it has {len(keys)} storages, and {len(storages)} are named")
        for key in keys:
            count, itemsize = storages[key]
            if file.read(8) != struct.pack("<q", count):
                raise ValueError(f"storage {key} is not of {count} elements, or cut off")
            places[key] = file.tell()
            file.seek(count * itemsize, os.SEEK_CUR)
        end = file.tell()
        if end > file.seek(0, os.SEEK_END):
            raise ValueError(f"it is cut off {end - file.tell()} bytes before its end")
    return tree


def _read_range(path: epath.Path, place: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(place)
        return file.read(size)

"""Writer for files in the formats of torch.save and TorchScript, without PyTorch."""

import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
_NAMED = {}


def named(module, name):
    """Returns a class that is pickled as the given name of the given module."""
    return _NAMED.setdefault((module, name), type(name, (), {"__module__": module, "__qualname__": name}))


@contextlib.contextmanager
def _importable():
    """Makes all classes returned by `named` importable, because pickle looks them up in their modules."""
    names = {module.rsplit(".", dots)[0] for module, _ in _NAMED for dots in range(module.count(".") + 1)}
    modules = {name: types.ModuleType(name) for name in names}
    for (module, name), value in _NAMED.items():
        setattr(modules[module], name, value)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


class Call:
    """Object that is pickled as a function call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def script_object(name, **attributes):
    """Returns an object that is pickled like a TorchScript object with these attributes."""
    value = named("__torch__.clip.model", name)()
    vars(value).update(attributes)
    return value


class Storage:
    """Storage with the elements of an array."""

    def __init__(self, key, array, kind=None):
        self.key, self.elements = str(key), np.asarray(array).reshape(-1)
        self.kind = kind or named("torch", STORAGES[self.elements.dtype.name])
        self.count = self.elements.size

    def identity(self):
        return ("storage", self.kind, self.key, "cpu", self.count)


def tensor(storage, shape, stride=None, offset=0):
    if stride is None:
        stride = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    return Call(named("torch._utils", "_rebuild_tensor_v2"), storage, offset, tuple(shape), stride, False, {})


def tensors(arrays):
    """Returns tensors of arrays by name, each with its own storage."""
    return {name: tensor(Storage(key, array), array.shape) for key, (name, array) in enumerate(arrays.items())}


def pickled(tree):
    """Returns the pickle of a tree, and its storages by key in the order of their first use."""
    storages, buffer = {}, io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            storages.setdefault(value.key, value)
            return value.identity()

    with _importable():
        Pickler(buffer, 2).dump(tree)
    return buffer.getvalue(), storages


def zipped(tree, *, name="archive", order="little", data=None):
    """Returns a file in the format of PyTorch 1.6 and later. `data` replaces the data of storages by key."""
    pickle_bytes, storages = pickled(tree)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{name}/data.pkl", pickle_bytes)
        archive.writestr(f"{name}/byteorder", order)
        for key, storage in storages.items():
            archive.writestr(f"{name}/data/{key}", (data or {}).get(key, storage.elements.tobytes()))
        archive.writestr(f"{name}/version", "3\n")
    return buffer.getvalue()


def legacy(tree, *, little_endian=True):
    """Returns a file in the format before PyTorch 1.6."""
    machine = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2, "int": 4}}
    body, storages = pickled(tree)
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, machine))
    elements = (struct.pack("<q", storage.count) + storage.elements.tobytes() for storage in storages.values())
    return head + body + pickle.dumps(list(storages), 2) + b"".join(elements)

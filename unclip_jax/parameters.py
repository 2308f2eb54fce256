"""Parameters as files: nested dicts of arrays, their names, their digest, and strict safetensors in and out.

A parameter's name is its path in the nested dict, joined by "/": `blocks/attention/qkv/kernel`.

From a file a parameter comes in pieces: arrays that, one behind the other along the first axis, are the whole. A
`Place` takes them to where they are wanted: of a network of gigabytes, a piece is in memory beside what is placed.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from unclip_jax import files
from unclip_jax.arrays import PyTree

PIECE = 32 * 2**20  # bytes of a large parameter that are taken at a time
# (name, shape, pieces) -> the parameter.
Place = Callable[[str, tuple[int, ...], Iterable[np.ndarray]], Any]


def flatten(tree: PyTree) -> dict[str, jax.Array]:
    """{"a": {"b": x}} -> {"a/b": x}."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: dict[str, jax.Array]) -> PyTree:
    """{"a/b": x} -> {"a": {"b": x}}."""
    return traverse_util.unflatten_dict(flat, sep="/")


def count(tree: PyTree) -> int:
    """How many numbers the tree holds. Takes arrays or shapes (`jax.eval_shape`)."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def digest(tree: PyTree) -> str:
    """SHA-256 over names, types, shapes and bytes: equal for equal parameters, wherever and in whatever order."""
    sha = hashlib.sha256()
    for name, value in sorted(flatten(tree).items()):
        array = np.asarray(value, order="C")  # ascontiguousarray would make a scalar a row
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def digest_of_file(path: epath.PathLike) -> str:
    """The digest that `load` gives its parameters as float32, without holding them."""
    sha = hashlib.sha256()
    with files.local_copy(path) as path:
        for name, shape in sorted(_stored_shapes(path).items()):
            sha.update(f"{name} float32 {shape}\n".encode())
            for piece in _stored_pieces(path, name, shape):
                sha.update(np.asarray(piece, np.float32, order="C").tobytes())
    return sha.hexdigest()


def save(path: epath.PathLike, tree: PyTree, *, dtype: jnp.dtype | None = None) -> None:
    """Writes a safetensors file, whole or not at all. `dtype` None keeps each array's own type."""
    arrays = {name: np.asarray(value, dtype, order="C") for name, value in sorted(flatten(tree).items())}
    files.atomic_write(path, safetensors_numpy.save(arrays))


def check(found: Mapping[str, Any], expected: PyTree, what: str) -> None:
    """Raises ValueError unless the arrays, by name, are those of the tree of shapes `expected`; `what` they are."""
    wanted = {name: tuple(leaf.shape) for name, leaf in flatten(expected).items()}
    misshapen = [
        f"{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in sorted(wanted.items())
        if name in found and tuple(found[name].shape) != shape
    ]
    complaints = {
        "missing": sorted(wanted.keys() - found.keys()),
        "left over": sorted(found.keys() - wanted.keys()),
        "of another shape": misshapen,
    }
    said = [f"{complaint}: {', '.join(names)}" for complaint, names in complaints.items() if names]
    if said:
        raise ValueError(f"{what} do not fit the network: {'; '.join(said)}")


def on_host(dtype: jnp.dtype | None = np.float32) -> Place:
    """Makes numpy arrays of one type; None: of that of their pieces."""

    def place(name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> np.ndarray:
        row, start = None, 0
        for piece in pieces:
            row = np.empty(math.prod(shape), piece.dtype if dtype is None else dtype) if row is None else row
            row[start : start + piece.size].reshape(piece.shape)[...] = piece
            start += piece.size
        return row.reshape(shape)

    return place


def on_devices(sharding: jax.sharding.Sharding, dtype_of: Callable[[str], jnp.dtype]) -> Place:
    """Makes arrays on devices, of the type that `dtype_of` says for their name."""

    def place(name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> jax.Array:
        dtype, start = np.dtype(dtype_of(name)), 0
        if math.prod(shape) * dtype.itemsize <= PIECE:
            # Waited for, here and below, or host arrays would pile up before devices that are slow to take them.
            return jax.block_until_ready(jax.device_put(on_host(dtype)(name, shape, pieces), sharding))
        whole = jnp.zeros(shape, dtype, device=sharding)
        for piece in pieces:
            whole = jax.block_until_ready(_with_rows(whole, np.asarray(piece, dtype, order="C"), start, sharding))
            start += len(piece)
        return whole

    return place


# Donated: the rows are written into the array that is there, and not into a copy of it.
@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def _with_rows(whole: jax.Array, rows: jax.Array, start: int, sharding: jax.sharding.Sharding) -> jax.Array:
    filled = jax.lax.dynamic_update_slice_in_dim(whole, rows, start, axis=0)
    return jax.lax.with_sharding_constraint(filled, sharding)


def load(path: epath.PathLike, expected: PyTree, *, place: Place | None = None) -> PyTree:
    """Reads a safetensors file, strictly.

    Args:
      path: the file.
      expected: the tree of shapes that a network's init has (`jax.eval_shape`).
      place: where the parameters go, and in which type; None: `on_host()`, float32.

    Raises ValueError that names every tensor that is missing, left over or of another shape.
    """
    place = place or on_host()
    with files.local_copy(path) as local:
        shapes = _stored_shapes(local)
        found = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
        check(found, expected, f"weights {str(path)!r}")
        return unflatten(
            {name: place(name, shape, _stored_pieces(local, name, shape)) for name, shape in sorted(shapes.items())}
        )


def _stored_shapes(path: epath.PathLike) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, "np") as file:
            names = file.keys()  # the file itself cannot be iterated over
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(f"weights {str(path)!r} are not a safetensors file ({error})") from error


def _stored_pieces(path: epath.PathLike, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    rows = PIECE // max(4 * math.prod(shape[1:]), 1) or 1  # four bytes a number, as the widest that are used
    for start in range(0, shape[0] if shape else 1, rows):
        yield _read(path, name, slice(start, min(start + rows, shape[0])) if shape else None)


def _read(path: epath.PathLike, name: str, rows: slice | None) -> np.ndarray:
    # Opened anew for each piece: what was read of a file is in memory as long as it is open.
    with safe_open(path, "np") as file:
        return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]

"""Parameter trees: names, digests, and saving and loading as safetensors.

The name of a parameter is its path in the nested dict, joined by "/": `blocks/attention/qkv/kernel`.

Parameters are read in pieces, which are consecutive slices along the first axis. A `Placement` assembles the pieces on
the host or on devices. Loading a multi-gigabyte network onto devices therefore needs host memory for only one piece at
a time.
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

PIECE = 32 * 2**20  # size in bytes of the pieces of a large parameter
# (name, shape, pieces) -> parameter.
Placement = Callable[[str, tuple[int, ...], Iterable[np.ndarray]], Any]


def flatten(tree: PyTree) -> dict[str, jax.Array]:
    """Flattens a nested dict: {"a": {"b": x}} becomes {"a/b": x}."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(flat: dict[str, jax.Array]) -> PyTree:
    """Unflattens a dict: {"a/b": x} becomes {"a": {"b": x}}."""
    return traverse_util.unflatten_dict(flat, sep="/")


def count(tree: PyTree) -> int:
    """Returns the number of elements in a tree of arrays or shapes (`jax.eval_shape`)."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def digest(tree: PyTree) -> str:
    """Computes SHA-256 over names, dtypes, shapes and bytes, independent of device and order."""
    sha = hashlib.sha256()
    for name, value in sorted(flatten(tree).items()):
        array = np.asarray(value, order="C")  # ascontiguousarray would turn a scalar into a vector
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def digest_of_file(path: epath.PathLike) -> str:
    """Computes the digest of a file's parameters in float32 without loading them all into memory."""
    sha = hashlib.sha256()
    with files.local_copy(path) as path:
        for name, shape in sorted(_stored_shapes(path).items()):
            sha.update(f"{name} float32 {shape}\n".encode())
            for piece in _stored_pieces(path, name, shape):
                sha.update(np.asarray(piece, np.float32, order="C").tobytes())
    return sha.hexdigest()


def save(path: epath.PathLike, tree: PyTree, *, dtype: jnp.dtype | None = None) -> None:
    """Writes parameters to a safetensors file atomically.

    Args:
      path: The file.
      tree: The parameters.
      dtype: Type to convert all parameters to. If None, each keeps its own type.
    """
    arrays = {name: np.asarray(value, dtype, order="C") for name, value in sorted(flatten(tree).items())}
    files.atomic_write(path, safetensors_numpy.save(arrays))


def check(actual: Mapping[str, Any], expected: PyTree, what: str) -> None:
    """Checks the names and shapes of parameters.

    Args:
      actual: Arrays or shapes by name.
      expected: Tree of the network's shapes.
      what: Description of the parameters for the error message, such as "weights 'params.safetensors'".

    Raises:
      ValueError: If a parameter is missing, unexpected or has the wrong shape. The message lists all of them.
    """
    shapes = {name: tuple(leaf.shape) for name, leaf in flatten(expected).items()}
    wrong_shapes = [
        f"{name} {list(actual[name].shape)} instead of {list(shape)}"
        for name, shape in sorted(shapes.items())
        if name in actual and tuple(actual[name].shape) != shape
    ]
    problems = {
        "Missing": sorted(shapes.keys() - actual.keys()),
        "Unexpected": sorted(actual.keys() - shapes.keys()),
        "Wrong shape": wrong_shapes,
    }
    lines = [f"{problem}: {', '.join(names)}." for problem, names in problems.items() if names]
    if lines:
        raise ValueError(f"{what} do not match the network. {' '.join(lines)}")


def on_host(dtype: jnp.dtype | None = np.float32) -> Placement:
    """Returns a placement that creates NumPy arrays.

    Args:
      dtype: Type of the arrays. If None, each has the type of its pieces.
    """

    def place(name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> np.ndarray:
        row, start = None, 0
        for piece in pieces:
            row = np.empty(math.prod(shape), piece.dtype if dtype is None else dtype) if row is None else row
            row[start : start + piece.size].reshape(piece.shape)[...] = piece
            start += piece.size
        return row.reshape(shape)

    return place


def on_devices(sharding: jax.sharding.Sharding, dtype_of: Callable[[str], jnp.dtype]) -> Placement:
    """Returns a placement that creates arrays on devices.

    Args:
      sharding: Sharding of every parameter.
      dtype_of: Returns the type of a parameter, given its name.
    """

    def place(name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> jax.Array:
        dtype, start = np.dtype(dtype_of(name)), 0
        if math.prod(shape) * dtype.itemsize <= PIECE:
            # Block here and below. Otherwise host arrays accumulate if the transfers are slow.
            return jax.block_until_ready(jax.device_put(on_host(dtype)(name, shape, pieces), sharding))
        whole = jnp.zeros(shape, dtype, device=sharding)
        for piece in pieces:
            whole = jax.block_until_ready(_with_rows(whole, np.asarray(piece, dtype, order="C"), start, sharding))
            start += len(piece)
        return whole

    return place


# The array is donated, so that the rows are written in place.
@functools.partial(jax.jit, donate_argnums=0, static_argnums=3)
def _with_rows(whole: jax.Array, rows: jax.Array, start: int, sharding: jax.sharding.Sharding) -> jax.Array:
    filled = jax.lax.dynamic_update_slice_in_dim(whole, rows, start, axis=0)
    return jax.lax.with_sharding_constraint(filled, sharding)


def load(path: epath.PathLike, expected: PyTree, *, place: Placement | None = None) -> PyTree:
    """Loads parameters from a safetensors file.

    Args:
      path: The file.
      expected: Tree of the network's shapes (`jax.eval_shape`).
      place: Placement of the parameters. If None, they are float32 NumPy arrays.

    Raises:
      OSError: If the file cannot be read.
      ValueError: If the file is not a safetensors file, or if a tensor is missing, unexpected or has the wrong shape.
    """
    place = place or on_host()
    with files.local_copy(path) as local:
        shapes = _stored_shapes(local)
        actual = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}
        check(actual, expected, f"weights {str(path)!r}")
        return unflatten(
            {name: place(name, shape, _stored_pieces(local, name, shape)) for name, shape in sorted(shapes.items())}
        )


def _stored_shapes(path: epath.PathLike) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, "np") as file:
            names = file.keys()  # the file object itself is not iterable
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(f"weights {str(path)!r} are not a safetensors file ({error}).") from error


def _stored_pieces(path: epath.PathLike, name: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    rows = PIECE // max(4 * math.prod(shape[1:]), 1) or 1  # 4 bytes per element, the widest type in use
    for start in range(0, shape[0] if shape else 1, rows):
        yield _read(path, name, slice(start, min(start + rows, shape[0])) if shape else None)


def _read(path: epath.PathLike, name: str, rows: slice | None) -> np.ndarray:
    # Reopen the file for each piece. Pages that were read stay in memory while it is open.
    with safe_open(path, "np") as file:
        return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]

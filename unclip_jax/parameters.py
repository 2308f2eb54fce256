"""Parameters as files: nested dicts of arrays, their names, their digest, and strict safetensors in and out.

A parameter's name is its path in the nested dict, joined by "/": `blocks/attention/qkv/kernel`.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from unclip_jax import files
from unclip_jax.arrays import PyTree


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


def save(path: epath.PathLike, tree: PyTree, *, dtype: jnp.dtype | None = None) -> None:
    """Writes a safetensors file, whole or not at all. `dtype` None keeps each array's own type."""
    arrays = {name: np.asarray(value, dtype, order="C") for name, value in sorted(flatten(tree).items())}
    files.write_whole(path, safetensors_numpy.save(arrays))


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


def load(
    path: epath.PathLike,
    expected: PyTree,
    *,
    dtype: jnp.dtype = jnp.float32,
    place: Callable[[str, np.ndarray], jax.Array] | None = None,
) -> PyTree:
    """Reads a safetensors file, strictly.

    Args:
      path: the file.
      expected: the tree of shapes that a network's init has (`jax.eval_shape`).
      dtype: type of the loaded arrays.
      place: puts one named host array on its devices. None: leaves numpy arrays.

    Raises ValueError that names every tensor that is missing, left over or of another shape.
    """
    try:
        found = safetensors_numpy.load(epath.Path(path).read_bytes())
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"weights {str(path)!r} are not a safetensors file ({error})") from error
    check(found, expected, f"weights {str(path)!r}")
    place = place or (lambda name, array: array)
    return unflatten({name: place(name, np.asarray(found.pop(name), dtype)) for name in sorted(found)})

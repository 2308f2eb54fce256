"""Array annotations, and the one glossary of axis letters.

An annotation names the axes of an array in order, separated by spaces: `Float["B H W C"]`. The letters mean the same
everywhere, in signatures and in einsums:

    B  rows of a batch             L  tokens               E  width of a CLIP embedding
    H W  height, width             D  width of a network   V  vocabulary
    C  channels                    N  attention heads      T  steps of the noise schedule
    S  side of CLIP's input        K  width of a head

Lower-case `h w` are the sides of a low-resolution input. The annotations are for the reader; shapes are checked where
data enters, and not at run time.
"""

from typing import Annotated, Any

import jax

PyTree = Any


class _Axes:
    """`Float["B E"]` is jax.Array, annotated with its element type and its axes."""

    def __init__(self, dtype: str):
        self.dtype = dtype

    def __getitem__(self, axes: str) -> Any:
        return Annotated[jax.Array, f"{self.dtype} {axes}"]


Float = _Axes("float")
Int = _Axes("int")
Bool = _Axes("bool")
UInt8 = _Axes("uint8")
Key = _Axes("key")
UInt32 = _Axes("uint32")

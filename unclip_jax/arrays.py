"""Array annotations and the glossary of their axis letters.

An annotation lists the axes of an array in order, separated by spaces: `Float["B H W C"]`. In signatures and einsums,
the letters mean:

    B    rows of a batch           L  tokens               E  width of a CLIP embedding
    H W  height, width             D  width of a network   V  vocabulary size
    C    channels                  N  attention heads      T  steps of the noise schedule
    S    side of CLIP's input      K  width of a head

Outside of attention, N is a number of images, captions or steps. Lower-case `h w` are the height and width of a
low-resolution input. Other letters are explained where they are used.

The annotations are documentation and are not checked at run time. Shapes are validated where data enters the package.
"""

from typing import Annotated, Any

import jax

PyTree = Any


class _Axes:
    """Element type of annotations: `Float["B E"]` is `jax.Array` with the element type and the axes."""

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

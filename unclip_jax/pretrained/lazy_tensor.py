"""Tensors whose data has not been loaded."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file.

    Attributes:
      shape: Shape in the file's order of axes.
      dtype: Type in the file.
      read: Loads the data. Every call returns a new array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray] = dataclasses.field(repr=False, compare=False)

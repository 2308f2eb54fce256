"""A tensor whose data is still in its file."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class LazyTensor:
    """Shape and type of a tensor in a file. `read()` loads the data; every call returns a new array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray] = dataclasses.field(repr=False, compare=False)

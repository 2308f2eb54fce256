"""Content of an exported folder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Content of one folder of an exported model.

    Attributes:
      config: Content of its JSON file.
      tensors: float32 tensors by published name. If None, the part has no weights.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray] | None = None

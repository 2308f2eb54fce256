"""A record, and what every source of records can do."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np


class Record(NamedTuple):
    """A picture, uint8 "S S 3", and the texts that describe it."""

    picture: np.ndarray
    captions: tuple[str, ...] = ()


class Source(Protocol):
    """Random access to records; reading the same index twice gives the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def captions(self) -> Iterator[str]:
        """Every caption of every record, in order; no picture is decoded."""

"""A record, and what every source of records can do."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

# What a source raises for a record that cannot be decoded: Pillow's errors, and array_record's.
UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError)


class Record(NamedTuple):
    """A picture, uint8 "S S 3", the texts that describe it, and CLIP's embedding of it, float32 "E".

    Of picture and embedding one is None: stored embeddings come without their pictures.
    """

    picture: np.ndarray | None
    captions: tuple[str, ...] = ()
    embedding: np.ndarray | None = None


class Source(Protocol):
    """Random access to records; reading the same index twice gives the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def captions(self) -> Iterator[str]:
        """Every caption of every record, in order; no picture is decoded."""

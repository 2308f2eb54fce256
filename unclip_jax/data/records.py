"""A record, and what every source of records can do."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

# What a source raises for a record that cannot be decoded: Pillow's errors, and array_record's.
UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError)


class Record(NamedTuple):
    """A picture, uint8 "S S 3", the texts that describe it, and CLIP's embedding of it, float32 "E"; where there are
    some, for each of the texts one that says something else; and what the picture shows in numbers, float32 "M".

    Of picture and embedding one is None: stored embeddings come without their pictures.
    """

    picture: np.ndarray | None
    captions: tuple[str, ...] = ()
    embedding: np.ndarray | None = None
    wrong_captions: tuple[str, ...] = ()
    moments: np.ndarray | None = None


class Unreadable:
    """The records that could not be decoded: each is warned of once, and more than `most` are an error that lists them.

    Args:
      records: how many there are in all.
      share: `config.data.max_unreadable`, for the message.
      most: how many this reader may meet.
      instead: what becomes of such a record, as in "record 3 cannot be read" + instead.
    """

    def __init__(self, records: int, share: float, most: float, instead: str):
        self._records, self._share, self._most, self._instead = records, share, most, instead
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, number: int, reason: str) -> None:
        """Counts a record that was not met before. Raises ValueError for one too many."""
        if number in self._reasons:
            return
        self._reasons[number] = reason
        if len(self) > self._most:
            listed = "; ".join(f"{number}: {why}" for number, why in sorted(self._reasons.items()))
            raise ValueError(
                f"{len(self)} of {self._records} records cannot be read, more than config.data.max_unreadable "
                f"{self._share:g} of them allows: {listed}"
            )
        warnings.warn(f"record {number} cannot be read{self._instead} ({len(self)} so far): {reason}")


def reason_of(error: Exception) -> str:
    """Why a record could not be decoded."""
    return f"{type(error).__name__}: {error}"


class Source(Protocol):
    """Random access to records; reading the same index twice gives the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def captions(self) -> Iterator[str]:
        """Every caption of every record, in order; no picture is decoded."""

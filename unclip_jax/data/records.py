"""Records, the interface of their sources, and the count of records that cannot be read."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

# Exceptions that a source raises for a record that cannot be decoded: those of Pillow and of array_record.
UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError)


class Record(NamedTuple):
    """One example. The fields that a source does not provide are None or empty.

    Attributes:
      image: uint8 "S S 3".
      captions: Texts that describe the image.
      embedding: CLIP's embedding of the image, float32 "E". Stored embeddings come without their images.
      negative_captions: For each caption, one that is false.
      scene_targets: Regression targets that describe the image in numbers, float32 "M".
    """

    image: np.ndarray | None
    captions: tuple[str, ...] = ()
    embedding: np.ndarray | None = None
    negative_captions: tuple[str, ...] = ()
    scene_targets: np.ndarray | None = None


class Unreadable:
    """The records that could not be decoded.

    There is one warning for each, and an error that lists them when there are more than `max_count`.

    Args:
      records: Number of all records.
      share: `config.data.max_unreadable`, for the message.
      max_count: Number of unreadable records that this reader tolerates.
      consequence: End of the warning "record 3 cannot be read", such as " and is left out".
    """

    def __init__(self, records: int, share: float, max_count: float, consequence: str):
        self._records, self._share, self._max_count, self._consequence = records, share, max_count, consequence
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, index: int, reason: str) -> None:
        """Counts a record, unless it is counted already.

        Raises:
          ValueError: If it is one too many.
        """
        if index in self._reasons:
            return
        self._reasons[index] = reason
        if len(self) > self._max_count:
            listed = "; ".join(f"{index}: {reason}" for index, reason in sorted(self._reasons.items()))
            raise ValueError(
                f"{len(self)} of {self._records} records cannot be read, more than config.data.max_unreadable "
                f"{self._share:g} of them allows: {listed}"
            )
        warnings.warn(f"record {index} cannot be read{self._consequence} ({len(self)} so far): {reason}")


def reason_of(error: Exception) -> str:
    """Returns the reason why a record could not be decoded."""
    return f"{type(error).__name__}: {error}"


class Source(Protocol):
    """Random access to records; reading the same index twice gives the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def captions(self) -> Iterator[str]:
        """Yields every caption of every record, in order, without decoding images."""

"""Records, the interface of their sources, and the accounting of unreadable records."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

# Exceptions for a record that cannot be decoded. Pillow and array_record raise all of these types.
UNREADABLE = (OSError, SyntaxError, ValueError, RuntimeError)


class Record(NamedTuple):
    """One example. Fields that the source does not provide are None or empty.

    Attributes:
      image: The image, uint8 "S S 3".
      captions: Texts that describe the image.
      embedding: CLIP embedding of the image, float32 "E". Records with stored embeddings have no image.
      negative_captions: For each caption, a similar one that does not describe the image.
      scene_targets: Regression targets that describe the image in numbers, float32 "M".
    """

    image: np.ndarray | None
    captions: tuple[str, ...] = ()
    embedding: np.ndarray | None = None
    negative_captions: tuple[str, ...] = ()
    scene_targets: np.ndarray | None = None


class Unreadable:
    """Counter of unreadable records, which warns about each one and fails if there are too many.

    Args:
      records: Total number of records.
      share: `config.data.max_unreadable`, for the error message.
      max_count: Maximum number of unreadable records.
      consequence: Continuation of the warning "Record 3 cannot be read", such as " and is skipped".
    """

    def __init__(self, records: int, share: float, max_count: float, consequence: str):
        self._records, self._share, self._max_count, self._consequence = records, share, max_count, consequence
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, index: int, reason: str) -> None:
        """Counts an unreadable record. Repeated calls for the same record have no effect.

        Args:
          index: Index of the record.
          reason: Why it cannot be read.

        Raises:
          ValueError: If more than `max_count` records are unreadable. The message lists them.
        """
        if index in self._reasons:
            return
        self._reasons[index] = reason
        if len(self) > self._max_count:
            listed = "; ".join(f"{index}: {reason}" for index, reason in sorted(self._reasons.items()))
            raise ValueError(
                f"{len(self)} of {self._records} records cannot be read, more than config.data.max_unreadable="
                f"{self._share:g} allows: {listed}"
            )
        warnings.warn(f"Record {index} cannot be read{self._consequence} ({len(self)} so far): {reason}", stacklevel=2)


def reason_of(error: Exception) -> str:
    """Returns the type and message of an exception, as the reason why a record cannot be read."""
    return f"{type(error).__name__}: {error}"


class Source(Protocol):
    """Random access to records. The same index always returns the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def captions(self) -> Iterator[str]:
        """Yields every caption of every record, in order, without decoding images."""

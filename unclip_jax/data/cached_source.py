"""In-memory cache of the records of a source."""

from collections.abc import Iterator

from unclip_jax.data.records import Record, Source


class CachedSource:
    """A source that keeps every record in memory once it has been read.

    The 30,000 training records of captioned shapes take 0.4 GB at 64 px and 6 GB at 256 px.

    Args:
      source: The source to read from.
    """

    def __init__(self, source: Source):
        self._source = source
        self._records: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._records.get(index)
        if record is None:
            record = self._records[index] = self._source[index]
        return record

    def captions(self) -> Iterator[str]:
        """Yields every caption of the wrapped source."""
        return self._source.captions()

    def __getstate__(self) -> dict:
        return {"_source": self._source, "_records": {}}  # every worker process fills its own cache

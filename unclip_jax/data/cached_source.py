"""A source that keeps its records in memory."""

from collections.abc import Iterator

from unclip_jax.data.records import Record, Source


class CachedSource:
    """Keeps every record that was read. All captioned shapes take 0.4 GB at 64 px and 6 GB at 256 px."""

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
        return self._source.captions()

    def __getstate__(self) -> dict:
        return {"_source": self._source, "_records": {}}  # a worker process fills its own

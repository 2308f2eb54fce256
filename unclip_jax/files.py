"""Files and folders that are whole or not there at all: written beside their place, then renamed into it."""

import contextlib
from collections.abc import Iterator

from etils import epath


def write_whole(path: epath.PathLike, content: str | bytes) -> None:
    """Writes a file, over one that may be there. Raises OSError where it cannot, and leaves what was there."""
    path = epath.Path(path)
    partial = path.parent / f".{path.name}.partial"
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def check_writable(path: epath.PathLike) -> None:
    """Raises OSError where no file could be written at `path`, which is left as it is."""
    path = epath.Path(path)
    trial = path.parent / f".{path.name}.trial"
    trial.write_bytes(b"")
    trial.unlink()


@contextlib.contextmanager
def whole_folder(path: epath.PathLike) -> Iterator[epath.Path]:
    """A new folder to be filled, which takes the place of `path` when the block ends without an error.

    What a broken-off run has left of it is cleared away first.
    """
    path = epath.Path(path)
    partial = path.parent / f".{path.name}.partial"
    if partial.exists():
        partial.rmtree()
    partial.mkdir(parents=True)
    yield partial
    if path.exists():
        path.rmtree()
    partial.rename(path)

"""Files and folders that are whole or not there at all: written beside their place, then renamed into it; and JSON."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath


def atomic_write(path: epath.PathLike, content: str | bytes) -> None:
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


def read_json(path: epath.PathLike) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError, with one line, for what is none or cannot be read."""
    path = epath.Path(path)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds no JSON object")
    return content


@contextlib.contextmanager
def local_copy(path: epath.PathLike) -> Iterator[str]:
    """The path of a file, for code that knows none but this machine's: of one in a store (`gs://`) that of a copy,
    which is there until the block ends."""
    if "://" not in str(path):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = epath.Path(folder) / epath.Path(path).name
        epath.Path(path).copy(copy)
        yield str(copy)


def check_writable(path: epath.PathLike) -> None:
    """Raises OSError where no file could be written at `path`, which is left as it is."""
    path = epath.Path(path)
    trial = path.parent / f".{path.name}.trial"
    trial.write_bytes(b"")
    trial.unlink()


@contextlib.contextmanager
def atomic_folder(
    path: epath.PathLike, *, replace: Callable[[epath.Path], bool] | None = None
) -> Iterator[epath.Path]:
    """Yields a new folder to fill, which appears at `path` when the block ends without an error.

    If the block raises, or the process is killed, whatever was at `path` stays.

    Args:
      path: Where the folder appears. Nothing, or an empty folder, may be there.
      replace: Tells whether an existing path contains only files that may be deleted for the new folder. If None, a
        path that contains anything is refused.

    Raises:
      ValueError: If `path` exists and may not be replaced. It is checked before the block and again before the
        replacement.
    """
    path = epath.Path(path)
    partial, old = (path.parent / f".{path.name}.unclip-{suffix}" for suffix in ("partial", "old"))
    if old.exists() and not path.exists():  # killed between the two renames below
        old.rename(path)
    _check_replaceable(path, replace)
    partial.rmtree(missing_ok=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        _check_replaceable(path, replace)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.rmtree(missing_ok=True)
        raise
    old.rmtree(missing_ok=True)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    old.rmtree(missing_ok=True)


def _check_replaceable(path: epath.Path, replace: Callable[[epath.Path], bool] | None) -> None:
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (replace and replace(path)):
        raise ValueError(f"{str(path)!r} exists already and is not replaced. Choose a new folder.")

"""Atomic writes of files and folders (write to a temporary name, then rename), and JSON reading."""

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath


def atomic_write(path: epath.PathLike, content: str | bytes) -> None:
    """Writes a file atomically, replacing an existing one.

    Args:
      path: The file.
      content: Its content. Text is encoded as UTF-8.

    Raises:
      OSError: If the file cannot be written. An existing file is left unchanged.
    """
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
    """Reads a JSON object from a file.

    Raises:
      ValueError: If the file cannot be read, is not valid JSON, or contains something other than an object.
    """
    path = epath.Path(path)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must contain a JSON object, got {type(content).__name__}.")
    return content


@contextlib.contextmanager
def local_copy(path: epath.PathLike) -> Iterator[str]:
    """Yields a local path of a file, for libraries that only read local files.

    A file in an object store (`gs://`) is copied to a temporary folder, which is removed when the block ends.
    """
    if "://" not in str(path):
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = epath.Path(folder) / epath.Path(path).name
        epath.Path(path).copy(copy)
        yield str(copy)


def check_writable(path: epath.PathLike) -> None:
    """Raises OSError if a file cannot be written at `path`, and leaves an existing file unchanged."""
    path = epath.Path(path)
    trial = path.parent / f".{path.name}.trial"
    trial.write_bytes(b"")
    trial.unlink()


@contextlib.contextmanager
def atomic_folder(path: epath.PathLike, *, replace: Callable[[epath.Path], bool] | None = None) -> Iterator[epath.Path]:
    """Yields an empty folder that is moved to `path` when the block ends without an error.

    If the block raises or the process is killed within it, an existing folder at `path` is left unchanged. If the
    process is killed while the folder is replaced, the next call for the same path restores it.

    Args:
      path: Destination. It must be missing or an empty folder, unless `replace` allows its replacement.
      replace: Returns whether an existing, non-empty path may be deleted. If None, it may not.

    Raises:
      ValueError: If `path` exists and may not be replaced. This is checked before the block and again before the
        replacement.
    """
    path = epath.Path(path)
    partial, old = (path.parent / f".{path.name}.unclip-{suffix}" for suffix in ("partial", "old"))
    if old.exists() and not path.exists():  # the process was killed between the two renames below
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
        raise ValueError(f"{str(path)!r} already exists. Choose a new folder.")

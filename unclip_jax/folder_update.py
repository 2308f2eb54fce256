"""Atomic updates of several files and folders within one folder.

Readers see the folder either before or after the update, even if the process is killed at any point. No atomic exchange
of folders is required from the file system. An update is a write-ahead journal:

    1. New entries are written to FOLDER/.unclip-update.partial/ and flushed to disk.
    2. That folder is renamed to FOLDER/.unclip-update/. This single rename commits the update.
    3. Its entries replace the entries of the same name in FOLDER, folders first, and the empty folder is deleted.

Readers locate entries with `current`, which prefers a committed entry that has not been moved yet. The next update
first completes an update that was interrupted after its commit, or discards one that was interrupted before it.

The algorithm is the same in an object store (`gs://`), but renaming a folder is not atomic there. A process that is
killed during step 2 or 3 may leave a mixture of old and new entries.
"""

import contextlib
import os
from collections.abc import Iterator

from etils import epath

from unclip_jax.folder_lock import LOCK, lock_folder

COMMITTED = ".unclip-update"
STAGED = ".unclip-update.partial"


@contextlib.contextmanager
def folder_update(folder: epath.PathLike) -> Iterator[epath.Path]:
    """Yields an empty folder whose entries replace those of `folder` when the block ends without an error.

    An entry is a file or a folder, and replaces the entire entry of the same name. Other entries are kept. The caller
    must check whether an existing entry may be replaced. If the block raises, `folder` is left unchanged.

    Args:
      folder: The folder to update. It is created if it is missing and locked for the duration of the block.

    Raises:
      FolderInUse: If another process or thread holds the lock of `folder`.
      OSError: If a file cannot be written or moved. If the update was already committed, the next update completes it.
    """
    folder = epath.Path(folder)
    with lock_folder(folder):
        recover(folder)
        staged = folder / STAGED
        try:
            staged.mkdir(parents=True)
            yield staged
            _flush_tree(staged)
            staged.rename(folder / COMMITTED)
        except BaseException:
            with contextlib.suppress(OSError):
                staged.rmtree(missing_ok=True)
            raise
        if "://" not in str(folder):
            _flush(str(folder))  # makes the rename itself durable
        recover(folder)


def current(folder: epath.PathLike, *names: str) -> epath.Path:
    """Returns the path from which to read an entry of `folder`, or a file within the entry.

    Args:
      folder: A folder that is written by `folder_update`.
      *names: Name of the entry, followed by path components within it. The path need not exist.
    """
    folder = epath.Path(folder)
    pending = (folder / COMMITTED / names[0]).exists()
    return (folder / COMMITTED if pending else folder).joinpath(*names)


def is_new(folder: epath.PathLike) -> bool:
    """Returns whether a folder is missing or empty, ignoring the lock and files of an uncommitted update."""
    folder = epath.Path(folder)
    return not folder.exists() or (folder.is_dir() and not entries(folder))


def entries(folder: epath.PathLike) -> list[str]:
    """Returns the sorted names of a folder's entries, except the lock and files of an uncommitted update."""
    return sorted(path.name for path in epath.Path(folder).iterdir() if path.name not in (STAGED, LOCK))


def recover(folder: epath.PathLike) -> None:
    """Completes an interrupted update of `folder` if it was committed, and discards it otherwise.

    Raises:
      FolderInUse: If another process or thread holds the lock of `folder`.
      OSError: If an entry cannot be moved.
    """
    folder = epath.Path(folder)
    with lock_folder(folder):
        if (folder / STAGED).exists():
            (folder / STAGED).rmtree()
        committed = folder / COMMITTED
        if not committed.exists():
            return
        for entry in sorted(committed.iterdir(), key=lambda entry: (not entry.is_dir(), entry.name)):
            _move(entry, folder / entry.name)
        committed.rmdir()


def _move(entry: epath.Path, target: epath.Path) -> None:
    """Moves a committed entry over `target`, which readers do not use until then."""
    if os.path.islink(target):  # replace the link, not its target
        target.unlink()
    elif target.is_dir():
        target.rmtree()
    elif entry.is_dir():
        target.unlink(missing_ok=True)
    entry.rename(target) if entry.is_dir() else entry.replace(target)


def _flush_tree(folder: epath.Path) -> None:
    """Flushes a local folder and its contents to disk, so that they precede the rename."""
    if "://" not in str(folder):
        for directory, _, names in os.walk(folder):
            for path in (*(os.path.join(directory, name) for name in names), directory):
                _flush(path)


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Updates of several files and folders in one folder that take effect completely or not at all.

At every moment the folder reads as before the update or as after it, even if the process is killed, without an
operation of the file system that exchanges folders. An update is a write-ahead journal:

    1. New entries are written to FOLDER/.unclip-update.partial/ and flushed to disk.
    2. That folder is renamed to FOLDER/.unclip-update/. This single rename commits the update.
    3. Each entry of it is moved over the entry of the same name in FOLDER, folders first, and then it is removed.

Readers locate entries with `current`, which prefers a committed entry that has not been moved yet. The next update
first completes one that was interrupted after its commit, and discards one that was interrupted before.

In an object store (`gs://`) the algorithm is the same, but renaming a folder is not atomic there: a process that is
killed during step 2 or 3 may leave a mixture.
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

    An entry, a file or a folder, replaces the whole entry of the same name. Entries of other names stay. Whether an
    existing entry may be replaced is for the caller to check. If the block raises, `folder` stays as it was.

    Args:
      folder: The folder to update. It is created if it is missing, and locked for the duration of the block.

    Raises:
      FolderInUse: If another process is updating `folder`.
      OSError: If a file cannot be written or moved. An update that was already committed is completed by the next one.
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
            _flush(str(folder))  # the commit itself
        recover(folder)


def current(folder: epath.PathLike, *names: str) -> epath.Path:
    """Returns the path of an entry of `folder`, or of a file within it, that a reader has to open.

    Args:
      folder: A folder that is written by `folder_update`.
      *names: Name of the entry, then names within it. The path may not exist.
    """
    folder = epath.Path(folder)
    pending = (folder / COMMITTED / names[0]).exists()
    return (folder / COMMITTED if pending else folder).joinpath(*names)


def is_new(folder: epath.PathLike) -> bool:
    """Returns whether a path is missing, or a folder that is empty except for the remains of an interrupted update."""
    folder = epath.Path(folder)
    return not folder.exists() or (folder.is_dir() and not entries(folder))


def entries(folder: epath.PathLike) -> list[str]:
    """Returns the sorted names of the entries of a folder, without the files of an update that was not committed."""
    return sorted(path.name for path in epath.Path(folder).iterdir() if path.name not in (STAGED, LOCK))


def recover(folder: epath.PathLike) -> None:
    """Completes an interrupted update of `folder` that was committed, or discards it if it was not."""
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
    """Moves a committed entry over `target`. While `target` is missing or incomplete, readers use the entry."""
    if os.path.islink(target):  # only the link is replaced
        target.unlink()
    elif target.is_dir():
        target.rmtree()
    elif entry.is_dir():
        target.unlink(missing_ok=True)
    entry.rename(target) if entry.is_dir() else entry.replace(target)


def _flush_tree(folder: epath.Path) -> None:
    """Writes a local folder to disk with its contents: otherwise a rename may reach the disk before older writes."""
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

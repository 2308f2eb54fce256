"""A lock on a local folder, which the operating system releases when the process ends, however it ends."""

import contextlib
import contextvars
import fcntl
import os
import pathlib
from collections.abc import Iterator

from etils import epath

LOCK = ".lock"
ATTEMPTS = 100  # each fails only if another process releases the lock at the same moment

_held: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("held", default=frozenset())


class FolderInUse(ValueError):
    """A folder that another process, or another thread of this one, has locked."""


@contextlib.contextmanager
def lock_folder(folder: epath.PathLike, *, what: str = "folder") -> Iterator[None]:
    """Holds the lock of a folder for the duration of the block.

    The folder is created if it is missing, and removed again if the block leaves it empty. Within the block the same
    thread may lock the folder again, which does nothing. Paths in an object store (`gs://`) and file systems without
    locks are not locked.

    Args:
      folder: The folder, in which the file `.lock` contains the process number of the holder.
      what: Name of the folder's role in the error message, such as "workdir".

    Raises:
      FolderInUse: If the lock is held elsewhere. Nothing has been written then.
      OSError: If the folder cannot be written to.
    """
    real = os.path.realpath(folder)
    if "://" in os.fspath(folder) or real in _held.get():
        yield
        return
    created = [path for path in (pathlib.Path(real), *pathlib.Path(real).parents) if not path.exists()]
    descriptor = _acquire(real, f"{what} {os.fspath(folder)!r}")
    token = _held.set(_held.get() | {real})
    try:
        yield
    finally:
        _held.reset(token)
        try:
            with contextlib.suppress(FileNotFoundError):  # the user has removed the folder
                os.unlink(os.path.join(real, LOCK))  # before the release: afterwards it may belong to the next holder
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty
            for path in created:
                path.rmdir()


def _acquire(folder: str, name: str) -> int:
    """Returns the descriptor of the locked file."""
    path = os.path.join(folder, LOCK)
    for _ in range(ATTEMPTS):
        os.makedirs(folder, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the previous holder has just removed the folder
            continue
        try:
            with contextlib.suppress(OSError):  # without support for locks, the folder is used unlocked
                _lock(descriptor, name)
            if _is_file(descriptor, path):
                with contextlib.suppress(OSError):  # only messages need the number
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FolderInUse(f"{name} cannot be locked: other processes lock it again and again. Try again later.")


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).strip()
        process = f" (process {int(holder)})" if holder.isdigit() else ""
        raise FolderInUse(
            f"{name} is in use by another run{process}. Wait until it has finished, stop it, or choose another folder."
        ) from error


def _is_file(descriptor: int, path: str) -> bool:
    """Whether the locked file is still the one at `path`: the previous holder removes it when it releases the lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

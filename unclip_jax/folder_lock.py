"""Lock on a local folder, released by the operating system even if the process is killed."""

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


class FolderInUse(ValueError):  # noqa: N818
    """Error for a folder that is locked by another process or by another thread of this process."""


@contextlib.contextmanager
def lock_folder(folder: epath.PathLike, *, what: str = "folder") -> Iterator[None]:
    """Holds the lock of a folder for the duration of the block.

    The folder is created if it is missing, and removed again if the block leaves it empty. Locking it again within the
    block, in the same thread, has no effect. Paths in an object store (`gs://`) and file systems without locks are not
    locked.

    Args:
      folder: The folder. While it is locked, its file `.lock` contains the process ID of the holder.
      what: Noun for the folder in the error message, such as "workdir".

    Raises:
      FolderInUse: If another process or thread holds the lock. Nothing is written in this case.
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
            # Delete the file before releasing the lock. Afterwards it may belong to the next holder.
            with contextlib.suppress(FileNotFoundError):  # the user has removed the folder
                os.unlink(os.path.join(real, LOCK))
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty
            for path in created:
                path.rmdir()


def _acquire(folder: str, name: str) -> int:
    """Locks the lock file of a folder and returns its file descriptor."""
    path = os.path.join(folder, LOCK)
    for _ in range(ATTEMPTS):
        os.makedirs(folder, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the previous holder has just removed the folder
            continue
        try:
            with contextlib.suppress(OSError):  # proceed without a lock if the file system does not support it
                _lock(descriptor, name)
            if _is_file(descriptor, path):
                with contextlib.suppress(OSError):  # the process ID is only needed for messages
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FolderInUse(f"{name} cannot be locked because other processes lock it repeatedly. Try again later.")


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
    """Returns whether the locked file is still at `path`.

    The previous holder deletes the file when it releases the lock.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False

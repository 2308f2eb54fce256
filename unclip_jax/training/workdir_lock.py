"""Lock that allows only one training run at a time in a workdir."""

import contextlib
from collections.abc import Iterator

import jax
from etils import epath

from unclip_jax.folder_lock import lock_folder


@contextlib.contextmanager
def lock_workdir(workdir: epath.PathLike) -> Iterator[None]:
    """Holds the lock of a workdir for the duration of the block.

    The lock is also released if the process is killed. Only the leader process holds it. Blocks can be nested in the
    same thread. A caller of `loop.train` can therefore hold the lock while it prepares the workdir. Workdirs in an
    object store (`gs://`) cannot be locked. Make sure that only one run at a time uses them.

    Args:
      workdir: Folder of the run.

    Raises:
      FolderInUse: If another run is using the workdir. The error is a ValueError and names the other process.
      OSError: If the workdir cannot be written to.
    """
    with lock_folder(workdir, what="workdir") if jax.process_index() == 0 else contextlib.nullcontext():
        yield

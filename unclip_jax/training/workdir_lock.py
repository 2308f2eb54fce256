"""One training run at a time in a workdir."""

import contextlib
from collections.abc import Iterator

import jax
from etils import epath

from unclip_jax.folder_lock import lock_folder


@contextlib.contextmanager
def lock_workdir(workdir: epath.PathLike) -> Iterator[None]:
    """Holds the lock of a workdir while a run trains in it; a killed run releases it too.

    Only the leader process holds it. Blocks of the same thread can be nested, so that callers of `loop.train` that
    write to the workdir first hold the lock from there on. Workdirs in an object store (`gs://`) have no lock: make
    sure that only one run at a time uses them.

    Raises:
      FolderInUse: If another run is training in the workdir. It is a ValueError that names the other process.
    """
    with lock_folder(workdir, what="workdir") if jax.process_index() == 0 else contextlib.nullcontext():
        yield

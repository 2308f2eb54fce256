"""A process that is killed just before its k-th operation on files, simulated within this one."""

import contextlib
import os
import sys
from collections.abc import Iterator

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}


class Killed(BaseException):
    """Raised in place of the operation, and of every later one: clean-up that a dead process cannot do fails too."""


class _Counter:
    """Counts the operations that Python reports to its audit hooks before it carries them out."""

    def __init__(self):
        self.left: int | None = None

    def __call__(self, event: str, args: tuple) -> None:
        if self.left is None:
            return
        writes = event == "open" and args[2] is not None and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or writes:
            if self.left == 0:
                raise Killed(event)
            self.left -= 1


_COUNTER = _Counter()
sys.addaudithook(_COUNTER)  # for the rest of the process; it does nothing outside of `killed_after`


@contextlib.contextmanager
def killed_after(operations: int) -> Iterator[None]:
    """Lets a number of operations that change files succeed within the block. The next one raises Killed."""
    _COUNTER.left = operations
    try:
        yield
    finally:
        _COUNTER.left = None

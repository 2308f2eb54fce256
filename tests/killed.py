"""Simulates a process that is killed before its k-th file operation."""

import contextlib
import os
import sys
from collections.abc import Iterator

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}


class Killed(BaseException):
    """Raised by the operation and by all later ones, because a killed process cannot clean up."""


class _Counter:
    """Counts file operations, which Python reports to audit hooks before it executes them."""

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
sys.addaudithook(_COUNTER)  # cannot be removed; has no effect outside of `killed_after`


@contextlib.contextmanager
def killed_after(operations: int) -> Iterator[None]:
    """Within the block, lets a number of operations that change files succeed. The next one raises Killed."""
    _COUNTER.left = operations
    try:
        yield
    finally:
        _COUNTER.left = None

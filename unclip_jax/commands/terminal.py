"""What a command shows on stderr while it works: warnings of one line, and a progress bar on a terminal."""

import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def one_line_warnings(command: str) -> Iterator[None]:
    """Warnings become lines that begin with the command's name."""

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        print(f"unclip {command}: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class StageBars:
    """A bar for the stage that is running; only on a terminal. A callable for `progress` of the library."""

    def __init__(self):
        self._bar, self._stage = None, None

    def __enter__(self) -> "StageBars":
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if stage != self._stage:
            self.__exit__()
            self._bar, self._stage = tqdm(total=total, desc=stage, unit="step", leave=False, disable=None), stage
        self._bar.update(done - self._bar.n)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

"""Output of commands on stderr: one-line warnings, and progress bars if stderr is a terminal."""

import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def one_line_warnings(command: str) -> Iterator[None]:
    """Prints each warning within the block on one line, prefixed with the name of the command.

    Args:
      command: Name of the command, such as "generate".
    """

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        print(f"unclip {command}: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


class StageBars:
    """Progress bar of the running stage, shown only if stderr is a terminal.

    Instances are context managers and can be passed as `progress` to the functions that generate images.
    """

    def __init__(self):
        self._bar, self._stage = None, None

    def __enter__(self) -> "StageBars":
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Updates the bar.

        Args:
          stage: Name of the stage. A new name starts a new bar.
          done: Number of completed steps.
          total: Total number of steps of the stage.
        """
        from tqdm import tqdm

        if stage != self._stage:
            self.__exit__()
            self._bar, self._stage = tqdm(total=total, desc=stage, unit="step", leave=False, disable=None), stage
        self._bar.update(done - self._bar.n)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

"""Timing of a run: steps, waiting for data, and interruptions such as evaluation."""

import contextlib
import math
import time
from collections.abc import Iterator


class StepTimer:
    """Timer of the steps between two logged steps. It excludes the first step of a run, which compiles."""

    def __init__(self, seconds: float = 0.0):
        """Starts the timer.

        Args:
          seconds: Total duration of earlier runs in the same workdir.
        """
        self._started = time.perf_counter() - seconds
        self._is_running = False
        self._losses: list[float] = []
        self._reset()

    def step(self, loss: float) -> None:
        """Adds a finished step and its loss."""
        if math.isfinite(loss):
            self._losses.append(loss)
        self._steps += 1
        if not self._is_running:
            self._is_running = True
            self._reset()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time in the block as waiting for data."""
        started = time.perf_counter()
        yield
        self._waited += time.perf_counter() - started

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Excludes the time in the block from the time of the steps."""
        started = time.perf_counter()
        yield
        self._paused += time.perf_counter() - started

    def interval(self, global_batch: int) -> dict[str, float]:
        """Returns the measurements since the last call and starts the next interval.

        Args:
          global_batch: Number of rows per step.

        Returns:
          `seconds`: total duration of the training, including interruptions and earlier runs. `loss_mean`: mean of the
          finite losses, if there are any. `images_per_second` and `data_wait`, the fraction of the time spent waiting
          for data: only if a step was measured.
        """
        now = time.perf_counter()
        values = {"seconds": now - self._started}
        if self._losses:
            values["loss_mean"] = sum(self._losses) / len(self._losses)
        if self._steps:
            spent = max(now - self._since - self._paused, 1e-9)
            values |= {"images_per_second": self._steps * global_batch / spent, "data_wait": self._waited / spent}
        self._losses = []
        self._reset()
        return values

    def _reset(self) -> None:
        self._since, self._waited, self._paused, self._steps = time.perf_counter(), 0.0, 0.0, 0

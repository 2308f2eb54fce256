"""Where the time of a run goes: steps, waiting for data, and what interrupts them (validation, checkpoints)."""

import contextlib
import math
import time
from collections.abc import Iterator


class Clock:
    """Measures the steps between one logged line and the next. Not the first step of a run, which compiles."""

    def __init__(self, seconds: float = 0.0):
        """`seconds`: what earlier runs of the same training took."""
        self._begun = time.perf_counter() - seconds
        self._running = False
        self._losses: list[float] = []
        self._reset()

    def step(self, loss: float) -> None:
        """A step is done."""
        if math.isfinite(loss):
            self._losses.append(loss)
        self._steps += 1
        if not self._running:
            self._running = True
            self._reset()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time within it was spent waiting for data."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Time within it belongs to no step."""
        begun = time.perf_counter()
        yield
        self._paused += time.perf_counter() - begun

    def interval(self, global_batch: int) -> dict[str, float]:
        """What happened since the last call.

        `loss_mean` is the mean of the finite losses; `seconds` all time of the training so far, interruptions and
        earlier runs included; `images_per_second` and `data_wait`, the share of time spent waiting for data, are left
        out where no step was measured.
        """
        now = time.perf_counter()
        values = {"seconds": now - self._begun}
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

"""Detection of loss spikes."""

import collections
import math
import statistics

WINDOW = 50  # previous losses whose median a loss is compared with
MIN_LOSSES = 10  # with fewer, nothing is a spike


class SpikeDetector:
    """Detects losses that exceed a multiple of the median of the last 50."""

    def __init__(self, factor: float):
        """Creates a detector.

        Args:
          factor: The multiple; 0 disables detection.
        """
        self._factor = factor
        self._losses: collections.deque[float] = collections.deque(maxlen=WINDOW)

    def is_spike(self, loss: float) -> bool:
        """Returns whether the next loss is a spike. Losses that are not finite are ignored: their steps are skipped."""
        if not math.isfinite(loss):
            return False
        enabled = self._factor and len(self._losses) >= MIN_LOSSES
        spike = bool(enabled) and loss > self._factor * statistics.median(self._losses)
        self._losses.append(loss)
        return spike

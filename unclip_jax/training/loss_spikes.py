"""Detection of loss spikes."""

import collections
import math
import statistics

WINDOW = 50  # number of previous losses in the median
MIN_LOSSES = 10  # number of previous losses that detection requires


class SpikeDetector:
    """Detector of losses that exceed a multiple of the median of the last 50."""

    def __init__(self, factor: float):
        """Creates a detector.

        Args:
          factor: The multiple; 0 disables detection.
        """
        self._factor = factor
        self._losses: collections.deque[float] = collections.deque(maxlen=WINDOW)

    def is_spike(self, loss: float) -> bool:
        """Returns whether a loss is a spike, and adds it to the previous losses.

        Losses that are not finite are ignored, because their steps are skipped.
        """
        if not math.isfinite(loss):
            return False
        enabled = self._factor and len(self._losses) >= MIN_LOSSES
        spike = bool(enabled) and loss > self._factor * statistics.median(self._losses)
        self._losses.append(loss)
        return spike

"""Steps that went wrong, with the records that were in them: what to look at when a loss jumps."""

import collections
import math
import statistics

WINDOW = 50  # losses of which a jump is told
ENOUGH = 10  # fewer say nothing yet


class SpikeDetector:
    """Tells a loss that is `factor` times the median of the last 50 or more."""

    def __init__(self, factor: float):
        """`factor` 0: tells none."""
        self._factor = factor
        self._losses: collections.deque[float] = collections.deque(maxlen=WINDOW)

    def is_spike(self, loss: float) -> bool:
        """Whether the next loss is one. What is not finite neither is nor counts: it has been skipped."""
        if not math.isfinite(loss):
            return False
        enough = self._factor and len(self._losses) >= ENOUGH
        spike = bool(enough) and loss > self._factor * statistics.median(self._losses)
        self._losses.append(loss)
        return spike

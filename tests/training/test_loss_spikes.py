"""Detection of loss spikes."""

import math

from unclip_jax.training.loss_spikes import SpikeDetector


def spikes(losses, factor):
    """Returns the indices of the spikes."""
    detector = SpikeDetector(factor)
    return [index for index, loss in enumerate(losses) if detector.is_spike(loss)]


def test_spike_exceeds_multiple_of_median():
    losses = [1.5] * 20 + [14.0, 16.0, 1.5, 15.1]
    assert spikes(losses, 10.0) == [21, 23]  # spikes do not change the median of 1.5
    assert spikes(losses, 8.0) == [20, 21, 23]
    assert spikes(losses, 0.0) == []


def test_spike_detection_requires_ten_finite_losses():
    assert spikes([1.0] * 9 + [1000.0], 10.0) == []
    assert spikes([1.0] * 10 + [1000.0], 10.0) == [10]
    assert spikes([math.nan] * 20 + [1.0, math.inf, 1000.0], 10.0) == []

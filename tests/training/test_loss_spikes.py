import math

from unclip_jax.training.loss_spikes import SpikeDetector


def told(losses, factor):
    detector = SpikeDetector(factor)
    return [place for place, loss in enumerate(losses) if detector.is_spike(loss)]


def test_a_loss_is_a_spike_beside_the_median_of_the_last_ones():
    losses = [1.5] * 20 + [14.0, 16.0, 1.5, 15.1]
    assert told(losses, 10.0) == [21, 23]  # the median stays 1.5, whatever the spikes
    assert told(losses, 8.0) == [20, 21, 23]
    assert told(losses, 0.0) == []


def test_the_first_ten_losses_and_what_is_not_finite_tell_nothing():
    assert told([1.0] * 9 + [1000.0], 10.0) == []
    assert told([1.0] * 10 + [1000.0], 10.0) == [10]
    assert told([math.nan] * 20 + [1.0, math.inf, 1000.0], 10.0) == []

"""Wilson intervals against published values and the definition."""

import math

import pytest

from unclip_jax.evaluation.intervals import wilson


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857), Table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_matches_published_examples(successes, n, expected):
    assert wilson(successes, n) == pytest.approx(expected, abs=5e-5)


def test_wilson_bounds_are_at_the_normal_quantile():
    for end in wilson(163, 200):
        distance = abs(163 / 200 - end) / math.sqrt(end * (1 - end) / 200)
        assert distance == pytest.approx(1.959964, abs=1e-6)


def test_wilson_is_symmetric():
    low, high = wilson(200, 200)
    assert high == 1.0
    assert (1 - high, 1 - low) == pytest.approx(wilson(0, 200))
    assert low == pytest.approx(1 / (1 + 1.959963984540054**2 / 200))  # closed form at p = 1


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_wilson_rejects_invalid_counts(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of n = {n}"):
        wilson(successes, n)

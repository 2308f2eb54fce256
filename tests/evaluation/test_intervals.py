"""Wilson's interval against published numbers and its definition."""

import math

import pytest

from unclip_jax.evaluation.intervals import wilson


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_published_examples_come_out(successes, n, expected):
    assert wilson(successes, n) == pytest.approx(expected, abs=5e-5)


def test_the_ends_lie_as_many_deviations_away_as_the_quantile_says():
    for end in wilson(163, 200):
        deviations = abs(163 / 200 - end) / math.sqrt(end * (1 - end) / 200)
        assert deviations == pytest.approx(1.959964, abs=1e-6)


def test_all_right_and_none_right_mirror_each_other():
    low, high = wilson(200, 200)
    assert high == 1.0
    assert (1 - high, 1 - low) == pytest.approx(wilson(0, 200))
    assert low == pytest.approx(1 / (1 + 1.959963984540054**2 / 200))  # closed form at p = 1


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_what_is_no_share_is_refused(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of n = {n}"):
        wilson(successes, n)

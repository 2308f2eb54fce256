"""Confidence intervals of proportions."""

import math

NORMAL_QUANTILE_95 = 1.959963984540054  # the 97.5% quantile of the standard normal distribution


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Computes the 95% score interval of a proportion (Wilson 1927).

    Unlike a normal approximation, it stays in [0, 1] and has a positive width at 0 and `n` successes.

    Args:
      successes: Number of successes.
      n: Number of trials.

    Returns:
      Lower and upper bound in [0, 1].

    Raises:
      ValueError: If `n` is not positive, or `successes` is negative or greater than `n`.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"successes must be from 0 to n and n at least 1, got {successes} successes of n = {n}.")
    proportion, z2 = successes / n, NORMAL_QUANTILE_95**2
    center = proportion + z2 / (2 * n)
    half = NORMAL_QUANTILE_95 * math.sqrt(proportion * (1 - proportion) / n + z2 / (4 * n**2))
    low, high = (center - half) / (1 + z2 / n), (center + half) / (1 + z2 / n)
    return max(low, 0.0), min(high, 1.0)

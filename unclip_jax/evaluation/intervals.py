"""Confidence intervals of shares."""

import math

NORMAL_QUANTILE_95 = 1.959963984540054  # the 97.5% quantile of the standard normal distribution


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Computes the 95% score interval of a share (Wilson, 1927).

    Unlike the share plus or minus two standard errors, it stays in [0, 1] and has a width at 0 and at `n` successes.

    Raises:
      ValueError: If `n` is not positive, or `successes` is negative or greater than `n`.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"successes must be from 0 to n and n at least 1, got {successes} successes of n = {n}.")
    share, z2 = successes / n, NORMAL_QUANTILE_95**2
    middle = share + z2 / (2 * n)
    half = NORMAL_QUANTILE_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return max(low, 0.0), min(high, 1.0)

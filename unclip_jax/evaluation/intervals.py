"""Confidence intervals of shares."""

import math

NORMAL_QUANTILE_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution


def wilson(successes: int, n: int, *, quantile: float = NORMAL_QUANTILE_95) -> tuple[float, float]:
    """Wilson's score interval of a share: every p from which `successes` of `n` lies within `quantile` deviations.

    Unlike p +- 2 deviations it stays within [0, 1] and has a width at 0 and at n. Wilson 1927.
    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} successes of n = {n} are no share: 0 <= successes <= n and n >= 1")
    share, z2 = successes / n, quantile**2
    middle = share + z2 / (2 * n)
    half = quantile * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return max(low, 0.0), min(high, 1.0)

"""Paths: the steps of the training schedule that a sampler visits.

A path of N steps is int32 [N+1]; the sampler goes from each entry to the next, and -1 is clean. A pair of equal entries
is a step that does nothing, which is how a path is filled up to a whole number of segments.
"""

import operator

import numpy as np


def even_path(num_steps: int, total: int = 1000) -> np.ndarray:
    """`num_steps` steps spread evenly from total - 1 down to 0, and then -1.

    The steps are round(i (total - 1) / (num_steps - 1)), as in Improved DDPM and Karlo; a single step goes from
    total - 1 straight to clean. Returns int32 [num_steps + 1]. Raises ValueError outside 1..total.
    """
    num_steps = operator.index(num_steps)
    if not 1 <= num_steps <= total:
        raise ValueError(f"num_steps is {num_steps}: it must be from 1 to {total}, the steps of the schedule.")
    if num_steps == 1:
        return np.array([total - 1, -1], np.int32)
    steps = np.rint(np.arange(num_steps) * (total - 1) / (num_steps - 1))  # halves go to the even one, as in Python
    return np.append(steps[::-1], -1).astype(np.int32)


def padded_path(path: np.ndarray, multiple: int) -> np.ndarray:
    """The path with its last entry repeated until its number of steps is a multiple of `multiple`."""
    path = np.asarray(path, np.int32)
    missing = -(len(path) - 1) % multiple
    return np.append(path, np.full(missing, path[-1], np.int32))


def segments(path: np.ndarray, length: int) -> np.ndarray:
    """The path, padded, in pieces of `length` steps: int32 [S, length + 1], each beginning where the last one ended.

    One compiled function of a segment then runs any path.
    """
    if length < 1:
        raise ValueError(f"segment length is {length}: it must be at least 1.")
    path = padded_path(path, length)
    starts = np.arange(0, len(path) - 1, length)
    return path[starts[:, None] + np.arange(length + 1)]

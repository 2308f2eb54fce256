"""Paths: the steps of the training schedule that a sampler visits.

A path of N steps is int32 [N+1]; the sampler goes from each entry to the next, and -1 is clean. A pair of equal entries
is a step that does nothing, which is how a path is filled up to a whole number of segments.
"""

import operator
from collections.abc import Sequence

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


def section_path(counts: Sequence[int], total: int = 1000) -> np.ndarray:
    """A path with a number of steps of its own in each of equal sections of the schedule, the cleanest first.

    Improved DDPM's (arXiv 2102.09672) "10,10,3,2,2": the first total % n of the n sections are longer by one, and
    within a section the steps lie evenly from its first to its last; a single one is its first. Returns int32
    [sum(counts) + 1]. Raises ValueError where a section has no step or too few to choose from.
    """
    counts = [operator.index(count) for count in counts]
    visited, start = [], 0
    for number, count in enumerate(counts):
        size = total // len(counts) + (number < total % len(counts))
        if not 1 <= count <= size:
            raise ValueError(f"section {number} of {counts} takes {count} steps: it must be from 1 to {size}.")
        visited.append(start + np.rint(np.arange(count) * (size - 1) / max(count - 1, 1)))
        start += size
    if not visited:
        raise ValueError("counts is empty: a path needs at least one section.")
    return np.append(np.concatenate(visited)[::-1], -1).astype(np.int32)


def fast27_path(total: int = 1000) -> np.ndarray:
    """GLIDE's (arXiv 2112.10741) 27 steps for upsampling with DDIM: "10,10,3,2,2" that begins at total - 3, not at
    total - 1, where an eps prediction says least about the picture."""
    path = section_path((10, 10, 3, 2, 2), total)
    path[0] = total - 3
    return path


def stride_path(num_steps: int, total: int = 1000) -> np.ndarray:
    """`num_steps` steps a whole number of steps apart, from 0 upwards, as DDIM (arXiv 2010.02502) takes them.

    The stride is the smallest that gives so many steps, and the path begins short of total - 1 (at 980 for 50 steps of
    1000). Raises ValueError where no stride gives `num_steps`.
    """
    num_steps = operator.index(num_steps)
    # range(0, total, stride) has ceil(total / stride) entries
    possible = [stride for stride in range(1, total + 1) if -(-total // stride) == num_steps]
    if not possible:
        raise ValueError(f"num_steps is {num_steps}: no whole stride through {total} steps has so many.")
    return np.append(np.arange(0, total, possible[0])[::-1], -1).astype(np.int32)


def named_path(name: int | str, total: int = 1000) -> np.ndarray:
    """The path that a setting names.

        100 or "100"        `even_path`
        "10,10,3,2,2"       `section_path`
        "fast27"            `fast27_path`
        "ddim50"            `stride_path`

    Raises ValueError for any other name, and for numbers of steps that cannot be.
    """
    text = str(name)
    if text == "fast27":
        return fast27_path(total)
    stride, counts = text.removeprefix("ddim"), text.split(",")
    if stride != text and stride.isdecimal():
        return stride_path(int(stride), total)
    if len(counts) > 1 and all(count.strip().isdecimal() for count in counts):
        return section_path([int(count) for count in counts], total)
    if text.lstrip("-").isdecimal():
        return even_path(int(text), total)
    raise ValueError(f"steps is {name!r}: it must be a number, sections as in '10,10,3,2,2', 'fast27' or as 'ddim50'.")


def ascending(path: np.ndarray) -> np.ndarray:
    """The path upwards without its clean end, for DDIM's inversion: what begins as a clean picture counts as x_0, and
    ends as the x_T from which the same path downwards leads back."""
    path = np.asarray(path, np.int32)
    return path[path >= 0][::-1].copy()


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

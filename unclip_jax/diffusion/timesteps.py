"""Timestep paths: sequences of training steps that a sampler visits.

A path of N steps is an int32 array [N+1]. The sampler moves from each entry to the next, and -1 is the clean sample. A
pair of equal entries is a step without effect, which is used to pad a path to a multiple of the segment length.
"""

import operator
from collections.abc import Sequence

import numpy as np


def even_path(num_steps: int, total: int = 1000) -> np.ndarray:
    """Returns a path of evenly spaced steps from total - 1 to 0, followed by -1.

    The steps are round(i (total - 1) / (num_steps - 1)), as in Improved DDPM and Karlo. A single step goes directly
    from total - 1 to the clean sample.

    Args:
      num_steps: Number of steps, from 1 to `total`.
      total: Number of training steps.

    Raises:
      ValueError: If `num_steps` is out of range.
    """
    num_steps = operator.index(num_steps)
    if not 1 <= num_steps <= total:
        raise ValueError(f"num_steps must be between 1 and {total}, got {num_steps}.")
    if num_steps == 1:
        return np.array([total - 1, -1], np.int32)
    steps = np.rint(np.arange(num_steps) * (total - 1) / (num_steps - 1))  # rounds halves to even, as Python does
    return np.append(steps[::-1], -1).astype(np.int32)


def section_path(counts: Sequence[int], total: int = 1000) -> np.ndarray:
    """Returns a path with a separate number of steps in each of several equal sections of the schedule.

    This is the respacing "10,10,3,2,2" of Improved DDPM (Nichol and Dhariwal 2021, arXiv 2102.09672). The first
    total % n of the n sections are longer by one step. The steps of a section are evenly spaced from its first to its
    last training step. If a section has a single step, it is the first one.

    Args:
      counts: Number of steps in each section, cleanest section first.
      total: Number of training steps.

    Raises:
      ValueError: If `counts` is empty, or if a count is less than 1 or greater than the number of training steps in its
        section.
    """
    counts = [operator.index(count) for count in counts]
    visited, start = [], 0
    for index, count in enumerate(counts):
        size = total // len(counts) + (index < total % len(counts))
        if not 1 <= count <= size:
            raise ValueError(f"section {index} of {counts} must have between 1 and {size} steps, got {count}.")
        visited.append(start + np.rint(np.arange(count) * (size - 1) / max(count - 1, 1)))
        start += size
    if not visited:
        raise ValueError("counts must contain at least one section.")
    return np.append(np.concatenate(visited)[::-1], -1).astype(np.int32)


def fast27_path(total: int = 1000) -> np.ndarray:
    """Returns the 27-step path of GLIDE (Nichol et al. 2021, arXiv 2112.10741) for upsampling with DDIM.

    It is "10,10,3,2,2", except that it starts at total - 3 instead of total - 1, where a prediction of eps contains the
    least information about the image.

    Args:
      total: Number of training steps.

    Raises:
      ValueError: If `total` is less than 47, because a section of ten steps would be too short.
    """
    path = section_path((10, 10, 3, 2, 2), total)
    path[0] = total - 3
    return path


def stride_path(num_steps: int, total: int = 1000) -> np.ndarray:
    """Returns a path with an integer stride, as in DDIM (Song et al. 2020, arXiv 2010.02502).

    The steps are 0, k, 2k, and so on, where k is the smallest stride that gives `num_steps` steps. The path starts
    below total - 1, for example at 980 for 50 of 1000 steps.

    Args:
      num_steps: Number of steps.
      total: Number of training steps.

    Raises:
      ValueError: If no stride gives `num_steps` steps.
    """
    num_steps = operator.index(num_steps)
    # range(0, total, stride) has ceil(total / stride) entries
    possible = [stride for stride in range(1, total + 1) if -(-total // stride) == num_steps]
    if not possible:
        raise ValueError(f"num_steps must be ceil({total} / k) for an integer stride k, got {num_steps}.")
    return np.append(np.arange(0, total, possible[0])[::-1], -1).astype(np.int32)


def named_path(name: int | str, total: int = 1000) -> np.ndarray:
    """Returns the path for a number of steps or a name.

        100 or "100"        `even_path`
        "10,10,3,2,2"       `section_path`
        "fast27"            `fast27_path`
        "ddim50"            `stride_path`

    Args:
      name: Number of steps, or a name as above.
      total: Number of training steps.

    Raises:
      ValueError: If the name is unknown or a number of steps is out of range.
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
    allowed = "a number of steps, sections such as '10,10,3,2,2', 'fast27', or a stride such as 'ddim50'"
    raise ValueError(f"Unknown path {name!r}. Use {allowed}.")


def ascending(path: np.ndarray) -> np.ndarray:
    """Reverses a path and removes its clean end, for DDIM inversion.

    Inversion treats a clean image as x at step 0 and ends at the x_T from which the original path leads back.

    Args:
      path: A descending path.
    """
    path = np.asarray(path, np.int32)
    return path[path >= 0][::-1].copy()


def padded_path(path: np.ndarray, multiple: int) -> np.ndarray:
    """Repeats the last entry of a path until its number of steps is a multiple of `multiple`."""
    path = np.asarray(path, np.int32)
    missing = -(len(path) - 1) % multiple
    return np.append(path, np.full(missing, path[-1], np.int32))


def segments(path: np.ndarray, length: int) -> np.ndarray:
    """Splits a path into segments of equal length, so that one compiled function can run any path.

    Args:
      path: The path. It is padded to a multiple of `length`.
      length: Number of steps per segment, at least 1.

    Returns:
      int32 [S, length + 1]. Each segment starts with the last entry of the previous one.

    Raises:
      ValueError: If `length` is less than 1.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}.")
    path = padded_path(path, length)
    starts = np.arange(0, len(path) - 1, length)
    return path[starts[:, None] + np.arange(length + 1)]

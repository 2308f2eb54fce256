"""Transforms for guidance, thresholding and editing: a static function plus the arrays that it uses.

Only the functions are static arguments of compiled functions, so changing the arrays does not recompile. Closures over
arrays would recompile on every call and are rejected.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from unclip_jax.arrays import PyTree
from unclip_jax.diffusion.denoiser import Denoiser
from unclip_jax.diffusion.samplers.sampler import Sampler
from unclip_jax.diffusion.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class DenoiserTransform:
    """Transform of the prediction, applied after classifier-free guidance and before clipping.

    A function that replaces x0 must also replace eps, and vice versa. Neither is derived from the other.

    Attributes:
      function: (denoiser, schedule, rows, shared) -> denoiser. Either defined at module level or an instance of a
        frozen dataclass, whose fields are static, such as a network.
      rows: Arrays with one row per image, split over the devices.
      shared: Arrays shared by all images, transferred once.

    Raises:
      ValueError: If `function` is a closure or a partial function, or is not callable.
    """

    function: Callable[[Denoiser, Schedule, PyTree, PyTree], Denoiser]
    rows: PyTree = ()
    shared: PyTree = ()

    def __post_init__(self):
        _check_function(self.function)


@dataclasses.dataclass(frozen=True)
class SamplerTransform:
    """Transform of x_t between steps, such as inpainting by masking and resampling.

    Attributes:
      function: (sampler, schedule, rows, shared) -> sampler, with the restrictions of `DenoiserTransform`.
      rows: Arrays with one row per image, split over the devices.
      shared: Arrays shared by all images, transferred once.

    Raises:
      ValueError: See `DenoiserTransform`.
    """

    function: Callable[[Sampler, Schedule, PyTree, PyTree], Sampler]
    rows: PyTree = ()
    shared: PyTree = ()

    def __post_init__(self):
        _check_function(self.function)


def repeat(transforms: Sequence[Any], count: int) -> list[Any]:
    """Returns the transforms with every row repeated `count` times, with repeats adjacent."""
    return [
        dataclasses.replace(one, rows=jax.tree.map(lambda x: np.repeat(x, count, axis=0), one.rows))
        for one in transforms
    ]


def check_rows(transforms: Sequence[Any], count: int, what: str) -> None:
    """Checks the number of rows of transforms.

    Args:
      transforms: Denoiser or sampler transforms.
      count: Expected number of rows.
      what: Name of the transforms in error messages.

    Raises:
      ValueError: If the arrays in `rows` of a transform do not have `count` rows.
    """
    for index, one in enumerate(transforms):
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(one.rows)}
        if lengths - {(count,)}:
            actual = ", ".join(str(*length) or "a scalar" for length in sorted(lengths))
            raise ValueError(
                f"rows of transform {index} in {what} must have {count} entries, one per image, got {actual}."
            )


def apply(transforms: Sequence[tuple[Callable, PyTree, PyTree]], subject: Any, schedule: Schedule) -> Any:
    """Applies (function, rows, shared) triples to a denoiser or a sampler, in order."""
    for function, rows, shared in transforms:
        subject = function(subject, schedule, rows, shared)
    return subject


def _check_function(function: Any) -> None:
    recompiles = isinstance(function, functools.partial) or getattr(function, "__closure__", None)
    if not callable(function) or recompiles:
        raise ValueError(
            f"function of a transform must be defined at module level, got {function!r}. Pass its arrays as rows or "
            "shared: a closure or a partial function would recompile on every call."
        )

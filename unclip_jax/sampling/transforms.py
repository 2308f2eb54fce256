"""Guidance, thresholding and editing as transforms: a static function with the arrays that it works on.

A compiled program depends on the functions alone, so other arrays compile nothing. A closure over arrays would be
compiled again for every call, and is refused.
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
    """A change of the prediction, applied after classifier-free guidance and before clipping.

    A function that replaces x0 must set eps as well, and the other way round: neither is derived from the other.

    Attributes:
      function: (denoiser, schedule, rows, shared) -> denoiser. Defined at module level; or an instance of a frozen
        dataclass, whose fields are static, such as a network.
      rows: Arrays with one entry per image, split over the devices.
      shared: Arrays that all images share, transferred once.
    """

    function: Callable[[Denoiser, Schedule, PyTree, PyTree], Denoiser]
    rows: PyTree = ()
    shared: PyTree = ()

    def __post_init__(self):
        _check_function(self.function)


@dataclasses.dataclass(frozen=True)
class SamplerTransform:
    """A change of x_t itself between steps, such as inpainting by masking and resampling.

    Attributes:
      function: (sampler, schedule, rows, shared) -> sampler, as in DenoiserTransform.
      rows, shared: As in DenoiserTransform.
    """

    function: Callable[[Sampler, Schedule, PyTree, PyTree], Sampler]
    rows: PyTree = ()
    shared: PyTree = ()

    def __post_init__(self):
        _check_function(self.function)


def repeat(transforms: Sequence[Any], count: int) -> list[Any]:
    """Returns the transforms for `count` candidates of every image, those of the first image first."""
    return [
        dataclasses.replace(one, rows=jax.tree.map(lambda x: np.repeat(x, count, axis=0), one.rows))
        for one in transforms
    ]


def check_rows(transforms: Sequence[Any], count: int, what: str) -> None:
    """Raises ValueError unless the rows of every transform have `count` entries.

    Args:
      what: What the transforms are, for the message.
    """
    for place, one in enumerate(transforms):
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(one.rows)}
        if lengths - {(count,)}:
            found = ", ".join(str(*length) or "a scalar" for length in sorted(lengths))
            raise ValueError(
                f"rows of transform {place} in {what} must have {count} entries, one per image, got {found}."
            )


def apply(transforms: Sequence[tuple[Callable, PyTree, PyTree]], subject: Any, schedule: Schedule) -> Any:
    """Applies (function, rows, shared) triples to a denoiser or a sampler, the first one first."""
    for function, rows, shared in transforms:
        subject = function(subject, schedule, rows, shared)
    return subject


def _check_function(function: Any) -> None:
    is_new_each_time = isinstance(function, functools.partial) or getattr(function, "__closure__", None)
    if not callable(function) or is_new_each_time:
        raise ValueError(
            f"function of a transform must be defined at module level, got {function!r}. Pass its arrays as rows or "
            "shared: a closure or a partial function would be compiled again for every call."
        )

"""Class-conditional and unconditional image generation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unclip_jax.arrays import UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.generate import generate
from unclip_jax.cascades.image_stages import image_stages, reads, reads_prompts
from unclip_jax.cascades.plan import Plan, make_plan
from unclip_jax.sampling.rows import Progress


def class_to_image(
    cascade: Cascade,
    labels: Sequence[int] | None = None,
    *,
    count: int = 1,
    seed: int | Sequence[int] = 0,
    first_image: int = 0,
    stop_after: str | None = None,
    low_memory: bool = False,
    free: bool | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8["N H W 3"]:
    """Generates images from class labels, or unconditionally.

    Up to rounding, image k of a call depends only on its seed, its index `first_image` + k, its label and the settings.

    Args:
      cascade: A class-conditional or unconditional cascade.
      labels: P class labels, starting at 0. None for unconditional cascades, for which P is 1.
      count: Number of images per label.
      seed: Seed in [0, 2**32), or one seed per label.
      first_image: Index of the first image.
      stop_after: Name of the stage whose images are returned. If None, the last stage.
      low_memory: Whether to release parameters during the call, see `text_to_image`.
      free: Deprecated name of `low_memory`.
      progress: Called with the name of the stage, the number of completed steps and the total number of steps.
      settings: `steps`, `sampler`, `sampling`, `decoder_scale`, `denoiser_transforms` and `sampler_transforms`, see
        `text_to_image`.

    Returns:
      N = P * `count` images, grouped by label.

    Raises:
      ValueError: If the cascade is text-conditional, if the labels do not match its classes, if an argument is invalid,
        or if the parameters of the cascade have been released.
    """
    plan = plan_class_to_image(
        cascade, labels, count=count, seed=seed, first_image=first_image, stop_after=stop_after, **settings
    )
    return generate(plan, low_memory=low_memory, free=free, progress=progress)


def plan_class_to_image(cascade: Cascade, labels: Sequence[int] | None = None, **arguments: Any) -> Plan:
    """Checks the arguments of `class_to_image` and returns the plan for `generate`."""
    cascade.check_not_deleted()
    base = image_stages(cascade, arguments.get("stop_after"))[0]
    if reads_prompts(base):
        raise ValueError(f"cascade {cascade.path!r} is text-conditional. Pass prompts instead of class labels.")
    classes = base.module.num_classes if "labels" in reads(base) else None
    _check_labels(labels, classes, f"{base.name} of {cascade.path!r}")
    labels = None if labels is None else np.asarray(labels, np.int32)
    return make_plan(cascade, inputs=1 if labels is None else len(labels), labels=labels, **arguments)


def _check_labels(labels: Sequence[int] | None, classes: int | None, name: str) -> None:
    if labels is None and classes is not None:
        raise ValueError(f"labels must be given, because {name} is class-conditional (classes 0 to {classes - 1}).")
    if labels is None:
        return
    if not len(labels):
        raise ValueError("labels must contain at least one class, got an empty list.")
    if classes is None:
        raise ValueError(f"labels must be None, because {name} is unconditional, got {labels[0]}.")
    unknown = [label for label in labels if not 0 <= label < classes]
    if unknown:
        raise ValueError(f"labels of {name} must be from 0 to {classes - 1}, got {unknown[0]}.")

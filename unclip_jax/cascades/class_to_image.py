"""Class to image: networks that are conditioned on class labels, or on nothing, and not on captions."""

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
    """Generates images of classes, `count` of each: all of the first label, then all of the second.

    Args:
      labels: P classes, starting at 0; N = P * `count`. If None, N = `count`, for a network that has no classes.
      settings: steps, sampler, sampling and transforms; these and the rest are as in `text_to_image`.

    Raises:
      ValueError: For an unknown label, labels for a network without classes, no labels for one with classes, and a
        cascade that is text-conditional.
    """
    plan = plan_class_to_image(
        cascade, labels, count=count, seed=seed, first_image=first_image, stop_after=stop_after, **settings
    )
    return generate(plan, low_memory=low_memory, free=free, progress=progress)


def plan_class_to_image(cascade: Cascade, labels: Sequence[int] | None = None, **arguments: Any) -> Plan:
    """Checks the arguments of `class_to_image` and returns their plan, for `generate`."""
    cascade.check_not_deleted()
    base = image_stages(cascade, arguments.get("stop_after"))[0]
    if reads_prompts(base):
        raise ValueError(f"cascade {cascade.path!r} draws what a prompt says; give it prompts, and no classes")
    classes = base.module.num_classes if "labels" in reads(base) else None
    _check_labels(labels, classes, f"{base.name} of {cascade.path!r}")
    given = None if labels is None else np.asarray(labels, np.int32)
    return make_plan(cascade, inputs=1 if given is None else len(given), labels=given, **arguments)


def _check_labels(labels: Sequence[int] | None, classes: int | None, name: str) -> None:
    if labels is None and classes is not None:
        raise ValueError(f"no class is given; {name} knows those from 0 to {classes - 1}")
    if labels is None:
        return
    if not len(labels):
        raise ValueError("labels is empty; name at least one class")
    if classes is None:
        raise ValueError(f"class {labels[0]} is given, and {name} knows no classes")
    unknown = [label for label in labels if not 0 <= label < classes]
    if unknown:
        raise ValueError(f"class {unknown[0]} is unknown; {name} has 0 to {classes - 1}")

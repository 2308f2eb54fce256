"""Class to image: pictures by the networks that know class labels, or nothing at all, and no captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unclip_jax.arrays import UInt8
from unclip_jax.cascades.cascade import Cascade
from unclip_jax.cascades.painting import check_numbers, paint, painters, plan_of
from unclip_jax.cascades.sampling import Progress, Settings


def class_to_image(
    cascade: Cascade,
    labels: Sequence[int] | None = None,
    *,
    count: int = 1,
    seed: int = 0,
    first_image: int = 0,
    stop_after: str | None = None,
    free: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> UInt8["N H W 3"]:
    """Pictures of classes, `count` of each: all of the first label, then all of the second.

    Args:
      labels: P classes, from 0; N = P * count. None: N = count, of a network that was trained without classes.
      settings: steps, sampler and sampling; and the rest: as in `text_to_image`.

    Raises ValueError for a label that is none of the network's, labels where there are no classes, none where there
    are, and a cascade that draws what a prompt says.
    """
    plan = check(
        cascade, labels, count=count, seed=seed, first_image=first_image, stop_after=stop_after, **settings
    )
    total = count * (1 if labels is None else len(labels))
    return paint(
        cascade,
        {"unet": None if labels is None else np.repeat(np.asarray(labels, np.int32), count)},
        plan=plan,
        seed=seed,
        numbers=first_image + np.arange(total),
        stop_after=stop_after,
        free=free,
        progress=progress,
    )


def check(
    cascade: Cascade,
    labels: Sequence[int] | None = None,
    *,
    count: int = 1,
    seed: int = 0,
    first_image: int = 0,
    **settings: Any,
) -> dict[str, Settings]:
    """Checks the arguments of `class_to_image`, and returns the settings of every stage. `settings`: as in
    `plan_of`."""
    first = painters(cascade)[0]
    if first.kind != "unet":
        raise ValueError(f"cascade {cascade.path!r} draws what a prompt says; give it prompts, and no classes")
    classes = first.module.num_classes
    if labels is None and classes is not None:
        raise ValueError(f"no class is given; {first.name} of {cascade.path!r} knows those from 0 to {classes - 1}")
    if labels is not None and classes is None:
        raise ValueError(f"class {labels[0]} is given, and {first.name} of {cascade.path!r} knows no classes")
    unknown = [label for label in labels or () if not 0 <= label < classes]
    if unknown:
        raise ValueError(f"class {unknown[0]} is unknown; {first.name} of {cascade.path!r} has 0 to {classes - 1}")
    if labels is not None and not len(labels):
        raise ValueError("labels is empty; name at least one class")
    check_numbers(1 if labels is None else len(labels), count=count, seed=seed, first_image=first_image)
    return plan_of(cascade, **settings)

"""How far apart the pictures of one prompt are: the spread of the object's place.

For the centres (x_i, y_i) of the object in n pictures of one prompt, with unbiased variances,

    spread = sqrt((var x + var y) / 2)                                                                              (1)

in pixels. A generator that paints one picture for each prompt has a spread near 0; one that has learned the data has
that of the data.
"""

from collections.abc import Sequence

import numpy as np

from unclip_jax.data.captioned_shapes.scene import Scene


def spread(centres: Sequence[tuple[float, float]]) -> float:
    """Equation 1. Raises ValueError for fewer than two centres."""
    if len(centres) < 2:
        raise ValueError(f"{len(centres)} centres have no variance; at least 2 are needed")
    return float(np.sqrt(np.mean(np.var(np.asarray(centres, np.float64), axis=0, ddof=1))))


def mean_spread(groups: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """The mean of the groups' spreads. Groups of fewer than two centres are left out; None where no other is there."""
    spreads = [spread(group) for group in groups if len(group) >= 2]
    return float(np.mean(spreads)) if spreads else None


def centres(seen: Sequence[Scene | None]) -> list[tuple[float, float]]:
    """The object's centre in every picture that could be read and shows one object."""
    return [(scene.objects[0].x, scene.objects[0].y) for scene in seen if scene and len(scene.objects) == 1]

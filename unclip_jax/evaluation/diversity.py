"""Diversity of the images of one prompt, measured as the spread of the object's position.

For the centers (x_i, y_i) of the object in n images of one prompt, with unbiased variances,

    spread = sqrt((var x + var y) / 2)                                                                              (1)

in pixels. The spread is close to 0 if a model always generates the same image, and equal to that of the dataset if the
model has learned its distribution.
"""

from collections.abc import Sequence

import numpy as np

from unclip_jax.data.captioned_shapes.scene import Scene


def spread(centers: Sequence[tuple[float, float]]) -> float:
    """Computes the spread of one group of centers in pixels, Eq. 1.

    Raises:
      ValueError: If there are fewer than two centers.
    """
    if len(centers) < 2:
        raise ValueError(f"centers must contain at least 2 points, got {len(centers)}.")
    return float(np.sqrt(np.mean(np.var(np.asarray(centers, np.float64), axis=0, ddof=1))))


def mean_spread(groups: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """Computes the mean spread of all groups with at least two centers. Returns None if there are none."""
    spreads = [spread(group) for group in groups if len(group) >= 2]
    return float(np.mean(spreads)) if spreads else None


def centers(scenes: Sequence[Scene | None]) -> list[tuple[float, float]]:
    """Returns the object's center in every scene with one object. Skips unreadable images (None)."""
    return [(scene.objects[0].x, scene.objects[0].y) for scene in scenes if scene and len(scene.objects) == 1]

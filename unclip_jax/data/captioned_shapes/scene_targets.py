"""Regression targets of a scene, which a linear map can predict from a good embedding.

For each object, f contains the shape and size as one-hot vectors and the color in [-1, 1], and (x, y) is the center
relative to that of the image, in quarters of the side. The targets of a scene are the sums over its objects of

    f, f x, f y, shape times color, sign times shape, sign times color    (sign is 1 for large and -1 for small objects)

and the color of the background. They contain how often each attribute occurs, where, and in which combinations. For
example, the sign of the difference of two targets is the relation of a star to a ring.
"""

import numpy as np

from unclip_jax.arrays import Float
from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE, SHAPES, SIZES, Object, Scene, rgb

COUNT = 63  # number of targets


def scene_targets(scene: Scene) -> Float["63"]:
    """Computes the targets in the order of the formula, with the background last."""
    objects = np.sum([_object_targets(item) for item in scene.objects], axis=0)
    return np.concatenate([objects, _unit_rgb(scene.background)]).astype(np.float32)


def _object_targets(item: Object) -> np.ndarray:
    shape = np.asarray([item.shape == name for name in SHAPES], float)
    size = np.asarray([item.size == name for name in SIZES], float)
    color = _unit_rgb(item.colour)
    x, y = ((center - IMAGE_SIZE / 2) / (IMAGE_SIZE / 4) for center in (item.x, item.y))
    attributes = np.concatenate([shape, size, color])
    sign = 1.0 if item.size == "large" else -1.0
    pairs = [np.outer(shape, color).ravel(), sign * shape, sign * color]
    return np.concatenate([attributes, attributes * x, attributes * y, *pairs])


def _unit_rgb(color: str) -> np.ndarray:
    """Returns a color scaled to [-1, 1]."""
    return np.asarray(rgb(color)) / 127.5 - 1.0

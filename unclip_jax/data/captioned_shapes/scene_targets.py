"""Regression targets of a scene: numbers that a linear map should be able to read off a good embedding.

With f of an object its shape and size as one-hot vectors and its color in [-1, 1], and (x, y) its center relative to
that of the image, in quarters of the side, the targets of a scene are

    sum over objects of f, f x, f y, of shape times color, and of size (1 large, -1 small) times shape and color

and the color of the background. They tell how often each attribute occurs, where, and together with which other. For
example, the sign of a sum of them decides whether a red star is left of a ring.
"""

import numpy as np

from unclip_jax.arrays import Float
from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE, SHAPES, SIZES, Object, Scene, rgb

COUNT = 63


def scene_targets(scene: Scene) -> Float["63"]:
    """Returns the targets as float32 [COUNT], in the order of the formula, the background last."""
    objects = np.sum([_of_object(item) for item in scene.objects], axis=0)
    return np.concatenate([objects, _colour(scene.background)]).astype(np.float32)


def _of_object(item: Object) -> np.ndarray:
    shape = np.asarray([item.shape == name for name in SHAPES], float)
    size = np.asarray([item.size == name for name in SIZES], float)
    colour = _colour(item.colour)
    x, y = ((middle - IMAGE_SIZE / 2) / (IMAGE_SIZE / 4) for middle in (item.x, item.y))
    attributes = np.concatenate([shape, size, colour])
    sign = 1.0 if item.size == "large" else -1.0
    pairs = [np.outer(shape, colour).ravel(), sign * shape, sign * colour]
    return np.concatenate([attributes, attributes * x, attributes * y, *pairs])


def _colour(colour: str) -> np.ndarray:
    return np.asarray(rgb(colour)) / 127.5 - 1.0

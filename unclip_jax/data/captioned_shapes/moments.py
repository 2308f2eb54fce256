"""What a picture shows, as numbers that a linear map of a good embedding tells.

With f of an object its shape and size as ones among zeros and its colour in [-1, 1], and (x, y) its middle from the
picture's, in quarters of its side, the moments of a scene are

    sum over objects of f, f x, f y, of shape times colour, and of size (1 large, -1 small) times shape and colour

and the background's colour. So they say how often each attribute is there, where, and with which other: a caption's
"a red star left of a ring" is a sign of a sum of them.
"""

import numpy as np

from unclip_jax.arrays import Float
from unclip_jax.data.captioned_shapes.scene import IMAGE_SIZE, SHAPES, SIZES, Object, Scene, rgb

COUNT = 63


def moments(scene: Scene) -> Float["63"]:
    """The moments above, float32 [COUNT], in the order of the formula, the background last."""
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

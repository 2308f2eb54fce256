"""Random parameters without zeros and ones, for comparing networks.

At initialization, the output of a U-Net is zero, and norms do not reveal a missing scale.
"""

import zlib

import jax
import numpy as np

from unclip_jax import parameters

# Kernels with a single input axis, the first one after the axis of stacked layers.
MANY_OUTPUT_AXES = ("qkv", "context", "image_to_tokens")


def randomise(tree, seed: int = 0):
    """Returns random parameters for the parameters of a network, or for their shapes.

    Values depend on the seed and the name of each parameter. Kernels have the standard deviation 1/sqrt(fan-in), which
    preserves the scale of activations. Scales of norms are distributed around 1, all other parameters around 0.
    """
    flat = parameters.flatten(tree)
    return parameters.unflatten({name: _random(name, leaf.shape, seed) for name, leaf in flat.items()})


def initialised(module, *args, seed: int = 0, **kwargs):
    """Returns random parameters in the structure that `module.init` returns for these arguments."""
    shapes = jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a, **kwargs), *args)
    return randomise(shapes["params"], seed)


def _random(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = rng.standard_normal(shape)
    path = name.split("/")
    if path[-1] == "scale":
        values = 1.0 + 0.3 * values
    elif path[-1] == "kernel":
        inputs = shape[1:] if "blocks" in path else shape
        inputs = inputs[:1] if path[-2] in MANY_OUTPUT_AXES else inputs[:-1]
        values = values / np.sqrt(np.prod(inputs))
    else:
        values = 0.5 * values
    return np.asarray(values, np.float32)

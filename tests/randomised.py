"""Parameters without zeros and ones: a fresh U-Net answers zero, and a fresh norm hides a forgotten scale."""

import zlib

import jax
import numpy as np

from unclip_jax import parameters

# Kernels whose inputs are their first axis alone (after the layers', where they are stacked).
MANY_OUTPUT_AXES = ("qkv", "context", "image_to_tokens")


def randomise(tree, seed: int = 0):
    """The tree of a network's parameters (or of their shapes) with numbers drawn from (seed, name of the tensor).

    Kernels have the deviation 1/sqrt(fan in), so that values keep their size through a network; scales of norms lie
    around 1, everything else around 0.
    """
    flat = parameters.flatten(tree)
    return parameters.unflatten({name: _drawn(name, leaf.shape, seed) for name, leaf in flat.items()})


def initialised(module, *args, seed: int = 0, **kwargs):
    """`randomise` of the parameters that `module.init` would make for these arguments."""
    shapes = jax.eval_shape(lambda *a: module.init(jax.random.key(0), *a, **kwargs), *args)
    return randomise(shapes["params"], seed)


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    numbers = random.standard_normal(shape)
    path = name.split("/")
    if path[-1] == "scale":
        numbers = 1.0 + 0.3 * numbers
    elif path[-1] == "kernel":
        inputs = shape[1:] if "blocks" in path else shape
        inputs = inputs[:1] if path[-2] in MANY_OUTPUT_AXES else inputs[:-1]
        numbers = numbers / np.sqrt(np.prod(inputs))
    else:
        numbers = 0.5 * numbers
    return np.asarray(numbers, np.float32)

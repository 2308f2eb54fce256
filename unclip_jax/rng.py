"""Randomness by name and by row.

Every random number is a pure function of a seed, a name that says what it is for, and the number of the row (a training
example or a picture) that it belongs to. Nothing depends on the order of calls, on the size of the batch or on the
number of devices. Keys are typed (`jax.random.key`).
"""

import zlib

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, Key


def named(key: Key[""], name: str) -> Key[""]:
    """The stream of `key` for one purpose, such as "noise" or "decoder": independent of every other name's."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def rows(key: Key[""], numbers: Int["B"]) -> Key["B"]:
    """One key for each row, from its number alone: the same number gives the same key in any batch."""
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.asarray(numbers, jnp.int32))


def named_rows(keys: Key["B"], name: str) -> Key["B"]:
    """`named` for each of the rows' keys."""
    return jax.vmap(lambda key: named(key, name))(keys)


def normal_rows(keys: Key["B"], shape: tuple[int, ...]) -> Float["B ..."]:
    """Standard normal float32 noise of `shape` for each row, from that row's key alone."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def bernoulli_rows(keys: Key["B"], probability: float) -> Bool["B"]:
    """A coin for each row: True with the given probability in [0, 1]."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)


def randint_rows(keys: Key["B"], low: int, high: int) -> Int["B"]:
    """A whole number in [low, high) for each row, uniformly."""
    return jax.vmap(lambda key: jax.random.randint(key, (), low, high))(keys)

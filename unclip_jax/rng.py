"""Random numbers by purpose and row.

Every random number is a pure function of a seed, a name that states its purpose, and a row number (the number of a
training example or of an image). It does not depend on the order of calls, the batch size or the number of devices.
Keys are typed (`jax.random.key`).
"""

import zlib

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Bool, Float, Int, Key


def named(key: Key[""], name: str) -> Key[""]:
    """Derives the key for one purpose, such as "noise" or "decoder".

    Keys of different names are independent.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def rows(key: Key[""], numbers: Int["B"]) -> Key["B"]:
    """Derives one key per row from its row number.

    Equal numbers give equal keys in any batch.
    """
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.asarray(numbers, jnp.int32))


def named_rows(keys: Key["B"], name: str) -> Key["B"]:
    """Applies `named` to each key."""
    return jax.vmap(lambda key: named(key, name))(keys)


def normal_rows(keys: Key["B"], shape: tuple[int, ...]) -> Float["B ..."]:
    """Draws standard normal float32 noise of `shape` for each row, from the key of that row only."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)


def bernoulli_rows(keys: Key["B"], probability: float) -> Bool["B"]:
    """Draws one Bernoulli sample per row, which is True with the given probability in [0, 1]."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)


def randint_rows(keys: Key["B"], low: int, high: int) -> Int["B"]:
    """Draws one uniform integer in [low, high) per row."""
    return jax.vmap(lambda key: jax.random.randint(key, (), low, high))(keys)

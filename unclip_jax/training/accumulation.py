"""Micro-batches: what is a mean over the rows of a batch, worked out one part of the rows after another.

The parts have equally many rows, so the mean of their means is the batch's: of losses, metrics and gradients.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Int, PyTree
from unclip_jax.batches import split_rows


def mean_over_parts(function: Callable[[PyTree, Int[""]], PyTree], batch: PyTree, parts: int) -> PyTree:
    """The mean of `function(part, number of the part)` over the parts of a batch.

    Args:
      function: answers a tree of floating-point arrays.
      batch: a tree of arrays with rows as first axis.
      parts: divides the rows.
    """
    if parts == 1:
        return function(batch, jnp.zeros((), jnp.int32))
    split = split_rows(batch, parts)

    def add(total: PyTree, numbered: tuple[PyTree, Int[""]]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, function(*numbered)), None

    first = jax.tree.map(lambda rows: rows[0], split)
    answer = jax.eval_shape(function, first, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), answer)
    total, _ = jax.lax.scan(add, zeros, (split, jnp.arange(parts)))
    return jax.tree.map(lambda leaf: leaf / parts, total)

"""Gradient accumulation over the micro-batches of one step.

All micro-batches have the same number of rows. The mean of a loss, metric or gradient over the micro-batches therefore
equals its mean over the batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Int, PyTree
from unclip_jax.batches import split_rows


def mean_over_micro_batches(
    function: Callable[[PyTree, Int[""], PyTree], tuple[PyTree, PyTree]], batch: PyTree, count: int, carry: PyTree
) -> tuple[PyTree, PyTree]:
    """Runs a function on one micro-batch after another and averages its results.

    Args:
      function: (micro-batch, its index, carry) -> results, next carry. The results are floating-point arrays.
      batch: Arrays whose first axis is the rows.
      count: Number of micro-batches. Must divide the number of rows.
      carry: Initial carry.

    Returns:
      The mean of the results, and the carry after the last micro-batch.
    """
    if count == 1:
        return function(batch, jnp.zeros((), jnp.int32), carry)
    split = split_rows(batch, count)

    def add(state: tuple[PyTree, PyTree], indexed: tuple[PyTree, Int[""]]) -> tuple[tuple[PyTree, PyTree], None]:
        total, carry = state
        results, carry = function(*indexed, carry)
        return (jax.tree.map(jnp.add, total, results), carry), None

    first = jax.tree.map(lambda rows: rows[0], split)
    shapes, _ = jax.eval_shape(function, first, jnp.zeros((), jnp.int32), carry)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (total, carry), _ = jax.lax.scan(add, (zeros, carry), (split, jnp.arange(count)))
    return jax.tree.map(lambda leaf: leaf / count, total), carry

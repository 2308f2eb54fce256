"""Exponential moving average (EMA) of the parameters.

    ema <- d ema + (1 - d) params,    d = min(limit, (1 + n) / (10 + n)) after n updates

The second bound makes the average forget the random initial parameters. With a fixed d of 0.999, they would still have
a weight of 0.37 after 1000 updates.
"""

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree


def decay(updates: Int[""], limit: float) -> Float[""]:
    """Computes d for the next update.

    Args:
      updates: Number of updates already made. At 0, d is 0.1.
      limit: Largest value of d.
    """
    updates = jnp.asarray(updates, jnp.float32)
    return jnp.minimum(limit, (1.0 + updates) / (10.0 + updates))


def update(ema: PyTree, params: PyTree, d: Float[""]) -> PyTree:
    """Updates the average, leaf by leaf."""
    return jax.tree.map(lambda old, new: d * old + (1.0 - d) * new, ema, params)

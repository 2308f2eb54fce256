"""The exponential moving average of the parameters.

    ema <- d ema + (1 - d) params,    d = min(limit, (1 + n) / (10 + n)) after n updates

The second bound lets the average forget its start: at a fixed d of 0.999 the random initial parameters would weigh
with 0.37 after a thousand steps.
"""

import jax
import jax.numpy as jnp

from unclip_jax.arrays import Float, Int, PyTree


def decay(updates: Int[""], limit: float) -> Float[""]:
    """d, where `updates` counts the averagings already done: 0.1 at the first, `limit` in the long run."""
    updates = jnp.asarray(updates, jnp.float32)
    return jnp.minimum(limit, (1.0 + updates) / (10.0 + updates))


def update(ema: PyTree, params: PyTree, d: Float[""]) -> PyTree:
    """One averaging step, leaf by leaf."""
    return jax.tree.map(lambda old, new: d * old + (1.0 - d) * new, ema, params)

"""A dropped caption is the empty caption's tokens; the others stay."""

import jax.numpy as jnp
import numpy as np

from unclip_jax.batches import empty_captions


def test_only_dropped_rows_become_the_empty_caption():
    tokens = jnp.array([[8, 1, 9], [8, 2, 9], [8, 3, 9]])
    dropped = empty_captions(tokens, jnp.array([False, True, False]), jnp.array([8, 9, 0]))
    np.testing.assert_array_equal(dropped, [[8, 1, 9], [8, 9, 0], [8, 3, 9]])

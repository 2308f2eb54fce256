"""Dropping captions, and splitting batches into micro-batches."""

import jax.numpy as jnp
import numpy as np

from unclip_jax.batches import empty_captions, join_rows, split_rows


def test_empty_captions_replaces_only_dropped_rows():
    tokens = jnp.array([[8, 1, 9], [8, 2, 9], [8, 3, 9]])
    dropped = empty_captions(tokens, jnp.array([False, True, False]), jnp.array([8, 9, 0]))
    np.testing.assert_array_equal(dropped, [[8, 1, 9], [8, 9, 0], [8, 3, 9]])


def test_split_rows_interleaves_rows_and_join_rows_inverts_it():
    batch = {"row": jnp.arange(12), "image": jnp.arange(24).reshape(12, 2)}
    parts = split_rows(batch, 4)
    np.testing.assert_array_equal(parts["row"], [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]])
    np.testing.assert_array_equal(parts["image"][1], [[2, 3], [10, 11], [18, 19]])
    joined = join_rows(parts)
    np.testing.assert_array_equal(joined["row"], batch["row"])
    np.testing.assert_array_equal(joined["image"], batch["image"])

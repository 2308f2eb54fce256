"""Randomness hangs on names and row numbers, not on batches."""

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax import rng

KEY = jax.random.key(0)


def test_a_row_draws_the_same_in_any_batch():
    together = rng.normal_rows(rng.rows(KEY, jnp.arange(10, 15)), (4,))
    alone = rng.normal_rows(rng.rows(KEY, jnp.array([13])), (4,))
    np.testing.assert_array_equal(together[3], alone[0])
    assert np.max(np.abs(together[2] - together[3])) > 0.1


def test_names_and_rows_give_streams_that_do_not_resemble_each_other():
    keys = rng.rows(KEY, jnp.arange(2000))
    noise, time = (rng.normal_rows(rng.named_rows(keys, name), ()) for name in ("noise", "time"))
    for first, second in ((noise, time), (noise[:-1], noise[1:])):
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))


def test_whole_numbers_fill_their_range():
    drawn = rng.randint_rows(rng.rows(KEY, jnp.arange(2000)), 3, 7)
    assert sorted(set(np.asarray(drawn).tolist())) == [3, 4, 5, 6]

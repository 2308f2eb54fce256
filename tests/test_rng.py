"""Random numbers depend on names and row numbers, not on batches."""

import jax
import jax.numpy as jnp
import numpy as np

from unclip_jax import rng

KEY = jax.random.key(0)


def test_normal_rows_does_not_depend_on_the_batch():
    together = rng.normal_rows(rng.rows(KEY, jnp.arange(10, 15)), (4,))
    alone = rng.normal_rows(rng.rows(KEY, jnp.array([13])), (4,))
    np.testing.assert_array_equal(together[3], alone[0])
    assert np.max(np.abs(together[2] - together[3])) > 0.1


def test_named_rows_are_independent_across_names_and_rows():
    keys = rng.rows(KEY, jnp.arange(2000))
    noise, time = (rng.normal_rows(rng.named_rows(keys, name), ()) for name in ("noise", "time"))
    for first, second in ((noise, time), (noise[:-1], noise[1:])):
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))


def test_randint_rows_covers_its_range():
    drawn = rng.randint_rows(rng.rows(KEY, jnp.arange(2000)), 3, 7)
    assert sorted(set(np.asarray(drawn).tolist())) == [3, 4, 5, 6]

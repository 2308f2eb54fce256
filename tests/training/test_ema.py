"""Moving average of the parameters, compared with values computed by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from unclip_jax.training import ema


def test_update_matches_values_computed_by_hand():
    average, actual = {"w": jnp.array(10.0)}, []
    for count, value in enumerate((0.0, 20.0, 5.0)):
        average = ema.update(average, {"w": jnp.array(value)}, ema.decay(count, 0.2))
        actual.append(float(average["w"]))
    # d is 1/10, then 2/11, then 0.2, because 3/12 exceeds the limit.
    first = 0.1 * 10.0
    second = 2 / 11 * first + 9 / 11 * 20.0
    np.testing.assert_allclose(actual, [first, second, 0.2 * second + 0.8 * 5.0], rtol=1e-6)


@pytest.mark.parametrize(("count", "d"), [(0, 0.1), (8, 0.5), (890, 0.99), (10**6, 0.999)])
def test_decay_increases_to_its_limit(count, d):
    assert float(ema.decay(count, 0.999)) == pytest.approx(d, rel=1e-6)
